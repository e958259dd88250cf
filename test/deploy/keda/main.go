// Reads an object of KEDA by KEDA's own types, and refuses fields that these lack and values of other types.
package main

import (
	"fmt"
	"io"
	"os"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = check(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(text []byte) error {
	var object meta.TypeMeta
	if err := yaml.Unmarshal(text, &object); err != nil {
		return err
	}
	switch object.APIVersion + " " + object.Kind {
	case "keda.sh/v1alpha1 ScaledObject":
		return yaml.UnmarshalStrict(text, &keda.ScaledObject{})
	case "keda.sh/v1alpha1 ScaledJob":
		return yaml.UnmarshalStrict(text, &keda.ScaledJob{})
	case "keda.sh/v1alpha1 TriggerAuthentication":
		return yaml.UnmarshalStrict(text, &keda.TriggerAuthentication{})
	}
	return fmt.Errorf("%s %s is no object of KEDA", object.APIVersion, object.Kind)
}
