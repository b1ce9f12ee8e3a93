/** An error that the user of a command can correct; the command prints its message alone. */
export class Failure extends Error {}

/** A signal ended the command. */
export class Interrupted extends Error {
  constructor(exitCode) {
    super('interrupted')
    this.exitCode = exitCode
  }
}

/** Prints one line about a step that takes time; to standard error, as standard output belongs to the program that is run. */
export function status(text) {
  console.error(`• ${text}`)
}
