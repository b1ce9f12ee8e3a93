import type { Model } from '../model.js'
import type { Action, Setting } from '../setting.js'

/** One script call of a process: what it sends, and what the process makes of the reply. */
export interface ScriptCall<Reply> {
  readonly name: string
  send(model: Model): Promise<Reply>
  apply(model: Model, reply: Reply): Promise<void> | void
  /** What the checks have to know where the script ran and its reply was lost. The process has not moved: it sends the same again. */
  lost?(model: Model, reply: Reply): void
}

/** The ways in which a script call can go: once, or, while repeats are left, twice. */
export function scriptCall<Reply>(setting: Setting, { budget }: Model, { name, send, apply, lost }: ScriptCall<Reply>): Action[] {
  const once: Action = {
    name,
    kind: 'step',
    run: async (next) => apply(next, await send(next)),
  }
  if (budget.repeats === 0) return [once]
  const replyLost: Action = {
    name: `${name}, its reply is lost`,
    kind: 'fault',
    run: async (next) => {
      next.budget.repeats--
      lost?.(next, await send(next))
    },
  }
  const copyLate: Action = {
    name: `${name}, a copy is on its way`,
    kind: 'fault',
    run: async (next) => {
      next.budget.repeats--
      setting.states.lastScript = undefined
      await apply(next, await send(next))
      const bytes = setting.states.lastScript as Buffer | undefined
      if (bytes !== undefined) next.lateCopies.push({ name, bytes: bytes.toString('latin1') })
    },
  }
  return setting.scope.lateCopies ? [once, replyLost, copyLate] : [once, replyLost]
}

/** Copies that arrive after their senders have a reply. */
export function lateCopyActions(setting: Setting, { lateCopies }: Model): Action[] {
  return lateCopies.map(({ name, bytes }, index) => ({
    name: `the copy of ${name} arrives`,
    kind: 'fault',
    run: async (next) => {
      next.lateCopies.splice(index, 1)
      await setting.states.again(Buffer.from(bytes, 'latin1'))
    },
  }))
}
