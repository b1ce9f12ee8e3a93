import { createContext } from 'preact'
import { useContext, useEffect, useRef, useState } from 'preact/hooks'

/** A change that is asked about once, with its effect in numbers, before it is made. */
export interface Question {
  readonly title: string
  /** What it does; a function reads the figures first. */
  readonly effect: string | (() => Promise<string>)
  readonly button: string
  readonly danger?: boolean
  /** A text that the change needs, such as a reason. */
  readonly field?: string
  /** Makes the change. @returns what is told when it is made */
  readonly run: (field: string) => Promise<string>
}

export interface Actions {
  readonly mayChange: boolean
  /** Opens the question. */
  ask(question: Question): void
  /** Tells what was done, and shows the page anew. */
  done(text: string): void
}

const NO_ACTIONS: Actions = { mayChange: false, ask: () => {}, done: () => {} }
export const ActionContext = createContext<Actions>(NO_ACTIONS)
export const useActions = () => useContext(ActionContext)

/** What the server refused, in its words. */
class Refused extends Error {}

interface ProblemAnswer {
  detail?: string
  title?: string
  todo?: string
}

/** Sends a request of this page to its server. @throws Refused with the detail of the problem */
export async function send<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
  // Without a session the audit has no better name; with one the server takes the name of that.
  const headers = { 'x-tollgate-actor': 'dashboard', ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
  const response = await fetch(path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }).catch(() => {
    throw new Refused('The server cannot be reached. Nothing was changed, as far as this page knows.')
  })
  const answer: unknown = await response.json().catch(() => ({}))
  if (response.ok) return answer as Answer
  const { detail, title, todo } = answer as ProblemAnswer
  throw new Refused([detail ?? title ?? `The server answered ${response.status}.`, todo].filter((one) => one !== undefined).join(' '))
}

/** Opens a question on a click; where the reader may change nothing the button is off. */
export function Ask({ question, label, text, main = false }: { question: Question; label?: string; text: string; main?: boolean }) {
  const { mayChange, ask } = useActions()
  const kind = main ? 'main' : `quiet${question.danger === true ? ' danger' : ''}`
  return (
    <button type="button" class={`btn ${kind}`} disabled={!mayChange} aria-label={label} onClick={() => ask(question)}>
      {text}
    </button>
  )
}

/** The dialog of the question that is open. */
export function QuestionDialog({ question, close, done }: { question: Question; close: () => void; done: (text: string) => void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [effect, setEffect] = useState(typeof question.effect === 'string' ? question.effect : '…')
  const [fault, setFault] = useState('')
  const [field, setField] = useState('')
  const [busy, setBusy] = useState(false)
  useEffect(() => {
    dialog.current?.showModal()
    if (typeof question.effect !== 'string') question.effect().then(setEffect, (error: Error) => setEffect(`What it does is not known: ${error.message}`))
  }, [question])
  const run = async () => {
    setBusy(true)
    setFault('')
    try {
      done(await question.run(field))
    } catch (error) {
      setFault((error as Error).message)
      setBusy(false)
    }
  }
  return (
    <dialog ref={dialog} aria-labelledby="question" onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void run()
        }}
      >
        <h2 id="question">{question.title}</h2>
        <p>{effect}</p>
        {question.field !== undefined && (
          <label>
            {question.field}
            <input value={field} onInput={({ currentTarget }) => setField(currentTarget.value)} maxLength={1000} />
          </label>
        )}
        <p class="fault" role="alert">
          {fault}
        </p>
        <div class="buttons">
          <button type="submit" class={`btn main${question.danger === true ? ' danger' : ''}`} disabled={busy}>
            {question.button}
          </button>
          <button type="button" class="btn" onClick={() => dialog.current?.close()}>
            Leave it
          </button>
        </div>
      </form>
    </dialog>
  )
}
