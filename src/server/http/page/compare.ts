// A result over the picture that it was made from, with a slider between them.
import { element } from "./page-elements.js";

/** The pictures of a comparison, as URLs; without `before` there is no slider. */
export interface Compared {
  readonly before: string | undefined;
  readonly after: string;
  readonly width: number;
  readonly height: number;
  /** What the result shows, for those who do not see it. */
  readonly text: string;
}

/** Most height of a comparison. */
const TALLEST = "72vh";

/** The comparison; the slider is moved by pointer, arrow keys, Home and End. */
export function comparison({ before, after, width, height, text }: Compared): HTMLElement {
  const result = element("img", { class: "after", src: after, alt: text, width, height, draggable: "false" });
  const root = element("div", { class: "compare" }, result);
  root.style.maxWidth = `calc(${TALLEST} * ${width / height})`;
  if (before === undefined) return root;
  const original = element("img", {
    class: "before",
    src: before,
    alt: "Picture 1 before the edit",
    draggable: "false",
  });
  const slider = element("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": "Share of the original" });
  const handle = element("div", { class: "handle", "aria-hidden": "true" });
  const [left, right] = [tag("Before", "left"), tag("After", "right")];
  const show = () => {
    const share = Number(slider.value);
    original.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
    handle.style.left = `${share}%`;
    slider.setAttribute("aria-valuetext", `${share} % before, ${100 - share} % after`);
    [left.hidden, right.hidden] = [share < 12, share > 88];
  };
  slider.value = "50";
  slider.addEventListener("input", show);
  show();
  // A format that browsers do not show: the result alone.
  original.addEventListener("error", () => root.replaceChildren(result));
  root.append(original, handle, left, right, slider);
  return root;
}

function tag(text: string, side: string): HTMLElement {
  return element("span", { class: `tag ${side}`, "aria-hidden": "true" }, text);
}
