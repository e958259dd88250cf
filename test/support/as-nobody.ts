// Work as a user without rights: root may read and write everywhere.

/** Linux's user of no rights. */
const NOBODY = 65534;

/** Does some work as a user to whom permissions apply. */
export async function asNobody<T>(work: () => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) return work();
  process.seteuid!(NOBODY);
  try {
    return await work();
  } finally {
    process.seteuid!(0);
  }
}
