// A message is begun before its turn: it is read, resolved and checked while the one before it computes.

/** Does a message that was begun; false leaves it undone. Calls `computed` when the device is free again. Throws QEDIT_E_NETWORK when the answer cannot be written. */
export type InTurn = (isOurs: () => boolean, computed: () => void) => Promise<boolean>;

/** The promise, which nobody may wait for: its turn may not come. */
export function caught<T>(begun: Promise<T>): Promise<T> {
  begun.catch(() => {});
  return begun;
}
