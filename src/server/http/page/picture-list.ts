// The pictures of a new edit: chosen, dropped or pasted, in their order, the first with a mask.
import { button, element, found, keyedList, type Row } from "./page-elements.js";

/** A picture that was chosen. */
export interface ChosenPicture {
  readonly key: string;
  readonly file: File;
  /** Where the page shows it from. */
  readonly url: string;
  readonly mask?: { readonly file: File; readonly url: string } | undefined;
}

/** The list of the page. */
export interface PictureList {
  readonly chosen: () => readonly ChosenPicture[];
  /** Adds what there is place for. Resolves when the files have been read. */
  readonly add: (files: readonly File[]) => Promise<void>;
  /** Replaces all, and the first one's mask. */
  readonly replace: (files: readonly File[], mask?: File) => Promise<void>;
  /** Sets how many can be added. An edit that is loaded keeps those that it had. */
  readonly limit: (most: number) => void;
}

/** What the list calls. */
export interface PictureListOptions {
  /** Lets the user paint over a picture: the new mask, "none", or undefined to leave it as it is. */
  readonly paint: (picture: ChosenPicture) => Promise<File | "none" | undefined>;
  readonly announce: (text: string) => void;
  readonly onProblem: (message: string, hint: string) => void;
}

/** The list in `#pictures`. */
export function pictureList({ paint, announce, onProblem }: PictureListOptions): PictureList {
  let pictures: readonly ChosenPicture[] = [];
  let made = 0;
  let most = 1;
  const drop = found("drop", HTMLLabelElement);
  const change = (changed: readonly ChosenPicture[]) => {
    for (const { url, mask } of pictures) {
      if (!changed.some((each) => each.url === url)) URL.revokeObjectURL(url);
      if (mask && !changed.some((each) => each.mask?.url === mask.url)) URL.revokeObjectURL(mask.url);
    }
    pictures = changed;
    drop.classList.toggle("small", pictures.length > 0);
    drop.hidden = pictures.length >= most;
    show(pictures.map((picture, index) => ({ picture, index, count: pictures.length })));
  };
  const move = (key: string, by: number) => {
    const from = pictures.findIndex((each) => each.key === key);
    const moved = pictures[from]!;
    const others = pictures.filter((each) => each !== moved);
    change([...others.slice(0, from + by), moved, ...others.slice(from + by)]);
    announce(`${moved.file.name} is now picture ${from + by + 1}`);
  };
  const remove = (key: string) => {
    const removed = pictures.find((each) => each.key === key)!;
    change(pictures.filter((each) => each !== removed));
    announce(`${removed.file.name} was removed`);
    found("files", HTMLInputElement).focus();
  };
  const paintOver = async (key: string) => {
    const mask = await paint(pictures.find((each) => each.key === key)!);
    if (mask !== undefined) change(pictures.map((each) => (each.key === key ? withMask(each, mask) : each)));
  };
  const show = keyedList<Place>(found("pictures", HTMLOListElement), {
    keyOf: ({ picture }) => picture.key,
    create: ({ picture: { key, file, url } }) =>
      row({ file, url }, { move: (by) => move(key, by), remove: () => remove(key), paint: () => void paintOver(key) }),
  });
  const chosen = (file: File, mask?: File): ChosenPicture => {
    made += 1;
    const picture = { key: String(made), file, url: URL.createObjectURL(file) };
    return mask ? withMask(picture, mask) : picture;
  };
  return {
    chosen: () => pictures,
    async add(files) {
      const read = await readAll(files, onProblem);
      const places = Math.max(0, most - pictures.length);
      if (read.length > places) onProblem(`An edit takes at most ${most} pictures`, "Remove one first");
      const added = read.slice(0, places).map((file) => chosen(file));
      change([...pictures, ...added]);
      if (added.length > 0) announce(`${added.map(({ file }) => file.name).join(", ")} added`);
    },
    async replace(files, mask) {
      const read = await readAll(files, onProblem);
      change(read.map((file, index) => chosen(file, index === 0 ? mask : undefined)));
    },
    limit(allowed) {
      most = allowed;
      drop.hidden = pictures.length >= most;
    },
  };
}

interface Place {
  readonly picture: ChosenPicture;
  readonly index: number;
  readonly count: number;
}

interface RowActions {
  readonly move: (by: number) => void;
  readonly remove: () => void;
  readonly paint: () => void;
}

function row({ file: { name }, url }: Pick<ChosenPicture, "file" | "url">, actions: RowActions): Row<Place> {
  const picture = element("img", { src: url, alt: name, draggable: "false" });
  const mask = element("img", { class: "mask", alt: "", hidden: true });
  const frame = element("div", { class: "frame" }, picture, mask);
  // A format that browsers do not show; the server may well read it.
  picture.addEventListener("error", () => picture.replaceWith(element("span", { class: "unshown" }, "No preview")));
  const number = element("span", { class: "number", "aria-hidden": "true" });
  const earlier = button("←", {
    "aria-label": `Move ${name} forward`,
    title: "Move forward",
    click: () => actions.move(-1),
  });
  const later = button("→", { "aria-label": `Move ${name} back`, title: "Move back", click: () => actions.move(1) });
  const paint = button("Mask", { class: "paint", click: actions.paint });
  const remove = button("✕", { "aria-label": `Remove ${name}`, title: "Remove", click: actions.remove });
  const root = element(
    "li",
    {},
    frame,
    element("div", { class: "about" }, number, element("span", { class: "name", title: name }, name)),
    element("div", { class: "buttons" }, paint, earlier, later, remove),
  );
  return {
    root,
    update({ picture: { mask: painted }, index, count }) {
      number.textContent = String(index + 1);
      paint.hidden = index > 0;
      paint.textContent = painted ? "Edit mask" : "Mask";
      earlier.disabled = index === 0;
      later.disabled = index === count - 1;
      earlier.hidden = later.hidden = count === 1;
      mask.hidden = painted === undefined || index > 0;
      if (painted && mask.src !== painted.url) mask.src = painted.url;
    },
  };
}

function withMask({ mask: _, ...picture }: ChosenPicture, mask: File | "none"): ChosenPicture {
  return mask === "none" ? picture : { ...picture, mask: { file: mask, url: URL.createObjectURL(mask) } };
}

// Into memory: a file that changes on disk before it is sent could not be sent.
async function readAll(files: readonly File[], onProblem: PictureListOptions["onProblem"]): Promise<File[]> {
  const read = await Promise.all(
    files.map(async (file) => {
      try {
        const bytes = await file.arrayBuffer();
        if (bytes.byteLength > 0) return new File([bytes], file.name, { type: file.type });
        onProblem(`${file.name} is empty`, "Choose a picture");
      } catch {
        onProblem(`Cannot read ${file.name}`, "Choose a picture");
      }
      return undefined;
    }),
  );
  return read.filter((file) => file !== undefined);
}
