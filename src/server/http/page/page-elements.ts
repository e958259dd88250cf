// Elements of the page. Texts become text nodes, never markup.

type Attributes = Readonly<Record<string, string | number | boolean | undefined | (() => void)>>;

/** A new element. An attribute that is false or undefined is left out; a function listens to the event of that name. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/** A button that does something. */
export function button(text: string, attributes: Attributes): HTMLButtonElement {
  return element("button", { type: "button", ...attributes }, text);
}

/** The element of index.html with this id. */
export function found<Kind extends Element>(id: string, kind: abstract new () => Kind): Kind {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new Error(`internal: the page has no ${kind.name} "${id}"`);
}

/** The first element under another one that a selector names. */
export function within<Kind extends Element>(parent: Element, selector: string, kind: abstract new () => Kind): Kind {
  const element = parent.querySelector(selector);
  if (element instanceof kind) return element;
  throw new Error(`internal: there is no ${kind.name} "${selector}"`);
}

/** What an item of a list is shown by. */
export interface Row<Item> {
  readonly root: HTMLElement;
  readonly update: (item: Item) => void;
}

/** A function that shows items in a list; rows stay where they are, so that the focus does too. */
export function keyedList<Item>(
  list: Element,
  { keyOf, create }: { readonly keyOf: (item: Item) => string; readonly create: (item: Item) => Row<Item> },
): (items: readonly Item[]) => void {
  const rows = new Map<string, Row<Item>>();
  return (items) => {
    const keys = new Set(items.map(keyOf));
    for (const [key, { root }] of rows) {
      if (keys.has(key)) continue;
      root.remove();
      rows.delete(key);
    }
    items.forEach((item, index) => {
      const key = keyOf(item);
      const row = rows.get(key) ?? create(item);
      rows.set(key, row);
      row.update(item);
      if (list.children[index] !== row.root) list.insertBefore(row.root, list.children[index] ?? null);
    });
  };
}
