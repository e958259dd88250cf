// The form of a new edit: its fields as values and back, kept in this tab, and what is wrong with them.

import { EMPTY, type FormValues, keptValues, type Parameters } from "./form-values.js";
import { button, element, found, within } from "./page-elements.js";
import type { Model } from "./page-wire.js";

/** The form without its pictures. */
export interface EditForm {
  readonly values: () => FormValues;
  readonly fill: (values: FormValues) => void;
  /** Lists the models of the server. */
  readonly offer: (models: readonly Model[]) => void;
  /** The model that is chosen; undefined: not known. */
  readonly model: () => Model | undefined;
  /** Shows why an edit was not taken, at its field; undefined: nothing is wrong. */
  readonly complain: (problem: Problem | undefined) => void;
  readonly focus: () => void;
}

/** Why an edit was not taken. */
export interface Problem {
  readonly message: string;
  readonly hint?: string | undefined;
  /** JSON name of a parameter. */
  readonly parameter?: string | undefined;
}

const DRAFT = "qedit.draft";

/** Fields by the parameter that each has. */
const FIELDS: Readonly<Record<string, string>> = {
  image: "files",
  images: "files",
  prompt: "prompt",
  model: "model",
  seed: "seed",
  megapixels: "megapixels",
  size: "size",
  steps: "steps",
  cfg: "cfg",
  negative_prompt: "negative-prompt",
  format: "format",
  keep_size: "keep-size",
};

const PRESETS: Readonly<Record<string, string>> = { "": "Standard", quality: "Quality" };

/** What the form calls. */
export interface EditFormOptions {
  readonly onSubmit: () => void;
  /** Another model is chosen, or offered. */
  readonly onModel: () => void;
}

/** The form in `#edit`. */
export function editForm({ onSubmit, onModel }: EditFormOptions): EditForm {
  const form = found("edit", HTMLFormElement);
  const presets = presetChoice();
  const others = otherParameters();
  const seed = found("seed", HTMLInputElement);
  const isFixed = found("seed-fixed", HTMLInputElement);
  const texts = textFields();
  const keepSize = found("keep-size", HTMLInputElement);
  const values = (): FormValues => ({
    ...EMPTY,
    ...Object.fromEntries(Object.entries(texts).map(([name, field]) => [name, field.value])),
    preset: presets.value(),
    seed: isFixed.checked ? seed.value.trim() || "0" : "",
    keepSize: keepSize.checked,
    others: others.value(),
  });
  const keep = () => sessionStorage.setItem(DRAFT, JSON.stringify(values()));
  const fill = (given: FormValues) => {
    for (const [name, field] of Object.entries(texts)) choose(field, String(given[name as keyof FormValues]));
    presets.choose(given.preset);
    found(given.seed === "" ? "seed-random" : "seed-fixed", HTMLInputElement).checked = true;
    if (given.seed !== "") seed.value = given.seed;
    seed.hidden = given.seed === "";
    keepSize.checked = given.keepSize;
    others.fill(given.others);
    const { megapixels, size, steps, cfg, negativePrompt, format } = given;
    const isMore = [megapixels, size, steps, cfg, negativePrompt, format].some((text) => text !== "");
    if (isMore || given.keepSize || Object.keys(given.others).length > 0) found("more", HTMLDetailsElement).open = true;
    keep();
  };
  form.addEventListener("input", () => {
    seed.hidden = !isFixed.checked;
    keep();
  });
  form.addEventListener("click", keep);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onSubmit();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    onSubmit();
  });
  const draft = keptValues(sessionStorage.getItem(DRAFT));
  fill(draft);
  let models: readonly Model[] = [];
  const model = () =>
    models.find(({ id, is_default }) => (texts.model.value === "" ? is_default : id === texts.model.value));
  const takeModel = () => {
    presets.offer(model()?.presets ?? []);
    onModel();
  };
  texts.model.addEventListener("input", takeModel);
  return {
    values,
    fill(given) {
      fill(given);
      takeModel();
    },
    offer(offered) {
      models = offered;
      const chosen = texts.model.value;
      const options = offered.map(({ id, summary }) => element("option", { value: id, title: summary }, id));
      texts.model.replaceChildren(element("option", { value: "" }, defaultText(offered)), ...options);
      choose(texts.model, chosen);
      takeModel();
    },
    model,
    complain,
    focus: () => texts.prompt.focus(),
  };
}

function textFields() {
  return {
    prompt: found("prompt", HTMLTextAreaElement),
    model: found("model", HTMLSelectElement),
    megapixels: found("megapixels", HTMLInputElement),
    size: found("size", HTMLInputElement),
    steps: found("steps", HTMLInputElement),
    cfg: found("cfg", HTMLInputElement),
    negativePrompt: found("negative-prompt", HTMLInputElement),
    format: found("format", HTMLSelectElement),
  };
}

// A choice that is not offered is added: it must not turn into another one unseen.
function choose(field: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement, value: string): void {
  if (field instanceof HTMLSelectElement && ![...field.options].some((option) => option.value === value))
    field.append(element("option", { value }, value));
  field.value = value;
}

function defaultText(models: readonly Model[]): string {
  const own = models.find(({ is_default }) => is_default);
  return own === undefined ? "The server's default" : `The server's default: ${own.id}`;
}

interface Choice {
  readonly value: () => string;
  readonly choose: (preset: string) => void;
  readonly offer: (presets: readonly string[]) => void;
}

function presetChoice(): Choice {
  const list = within(found("preset", HTMLFieldSetElement), ".choices", HTMLDivElement);
  let [offered, chosen]: [readonly string[], string] = [[], ""];
  const show = () => {
    const shown = [...new Set(["", ...offered, chosen])];
    list.replaceChildren(
      ...shown.map((preset) => {
        const input = element("input", {
          ...{ type: "radio", name: "preset", value: preset, checked: preset === chosen },
          change: () => (chosen = preset),
        });
        const text = PRESETS[preset] ?? preset.replace(/^fast-(\d+)$/, "Fast, $1 steps");
        return element("label", {}, input, element("span", {}, text));
      }),
    );
  };
  show();
  return {
    value: () => chosen,
    choose(preset) {
      chosen = preset;
      show();
    },
    offer(presets) {
      if (offered.join() === presets.join()) return;
      offered = presets;
      show();
    },
  };
}

// Parameters of a job that was loaded and that have no field: shown, and sent again unless they are removed.
function otherParameters(): { readonly value: () => Parameters; readonly fill: (parameters: Parameters) => void } {
  const place = found("others", HTMLFieldSetElement);
  const list = within(place, "ul", HTMLUListElement);
  let parameters: Parameters = {};
  const fill = (given: Parameters) => {
    parameters = given;
    place.hidden = Object.keys(given).length === 0;
    list.replaceChildren(
      ...Object.entries(given).map(([name, value]) => {
        const { [name]: _, ...rest } = given;
        const text = `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`;
        const remove = button("✕", { "aria-label": `Remove ${name}`, click: () => fill(rest) });
        return element("li", {}, element("span", {}, text), remove);
      }),
    );
  };
  return { value: () => parameters, fill };
}

function complain(problem: Problem | undefined): void {
  for (const field of document.querySelectorAll("#edit [aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
  const place = found("problem", HTMLDivElement);
  place.replaceChildren();
  if (problem === undefined) return;
  const { message, hint, parameter } = problem;
  place.replaceChildren(element("p", {}, message), ...(hint ? [element("p", { class: "hint" }, hint)] : []));
  place.scrollIntoView({ block: "nearest" });
  const id = FIELDS[parameter ?? ""];
  const field = id === undefined ? null : document.getElementById(id);
  if (field === null) return;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-errormessage", "problem");
  const more = field.closest("details");
  if (more) more.open = true;
  field.focus();
}
