/** Something whoever started us can put right; shown as its message alone. */
export class Failure extends Error {}

/** Somebody asked us to stop. */
export class Interrupted extends Error {
  constructor(exitCode) {
    super('interrupted')
    this.exitCode = exitCode
  }
}

/** One line on what takes time; to standard error, so that standard output stays the program's. */
export function status(text) {
  console.error(`• ${text}`)
}
