// qedit completion: prints a shell's completion script.
import { QeditError } from "../../std/errors.js";
import { defineCommand } from "../command.js";
import { completionScript } from "../complete.js";

const SHELLS = ["bash", "zsh", "fish", "powershell"];

/** `qedit completion bash`. */
export const completion = defineCommand({
  examples: [
    "source <(qedit completion bash)",
    "qedit completion zsh > ~/.qedit-completion.zsh",
    "qedit completion fish > ~/.config/fish/completions/qedit.fish",
    "qedit completion powershell | Out-String | Invoke-Expression",
  ],
  positionals: [["<shell>", SHELLS.join(", ")]],
  options: {},
  async perform({ args: [shell] }, terminal) {
    if (!SHELLS.includes(shell!))
      throw new QeditError("QEDIT_E_USAGE", `Cannot complete in "${shell}": ${SHELLS.join(", ")} are known`, {
        hint: "qedit completion bash",
      });
    const script = completionScript(shell!);
    terminal.result({ shell, script }, script.trimEnd().split("\n"));
  },
});
