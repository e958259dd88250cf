// Refusals of the inference protocol itself, which no other interface has.

/** A request or an answer that is refused. */
export class V2Error extends Error {
  constructor(
    /** HTTP's status. */
    readonly status: 400 | 404 | 501 | 503 | 504,
    message: string,
  ) {
    super(message);
  }
}
