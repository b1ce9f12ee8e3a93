import { type AppCall, type Canceller, type Model, SLOW_ABORT_MS, type Worker } from '../model.js'
import type { Action, Setting } from '../setting.js'
import { scriptCall } from './script-call.js'

/** The cancellation of a call, as `QueueRuntime.cancel` does it: what it reads first may have changed when it releases. */
export function cancellerActions(setting: Setting, model: Model): Action[] {
  const { canceller } = model
  switch (canceller.phase) {
    case 'idle':
      return model.budget.cancels === 0
        ? []
        : model.jobs.flatMap((job, call) => (['wait', 'delayed', 'active'].includes(job.state) ? [begin(setting, call)] : []))
    case 'release': {
      const { read, call } = canceller
      return scriptCall(setting, model, {
        name: `release the cancelled c${call}`,
        send: async (next) => {
          const stored = setting.program.readRecord(read[1])
          if (stored?.state === 'started') return 'R'
          const client = setting.client(next.rules.app)
          return client.release(setting.program.restoredRequest(client, read[0], read[1]), stored?.line ?? '')
        },
        apply: (next, held) => set(next, { phase: 'finish', call, runs: held === 'R' }),
      })
    }
    case 'finish': {
      const { call, runs } = canceller
      return [
        {
          name: `finish the cancellation of c${call}`,
          kind: 'step',
          run: (next) => {
            const job = next.jobs[call]
            if (job?.state === 'active' || (runs && job?.state !== 'done' && job?.state !== 'failed')) abort(next, call)
            else if (job?.state === 'wait' || job?.state === 'delayed') next.jobs[call] = { state: 'removed' }
            set(next, { phase: 'idle' })
          },
        },
      ]
    }
    default:
      return canceller satisfies never
  }
}

function begin(setting: Setting, call: number): Action {
  return {
    name: `cancel c${call}`,
    kind: 'fault',
    run: async (model) => {
      model.budget.cancels--
      ;(model.calls[call] as AppCall).cancelled = true
      const id = setting.idOf(call)
      const record = await setting.states.client.get(setting.keys.call(id))
      if (model.jobs[call]?.state === 'active') abort(model, call)
      set(model, { phase: 'release', call, read: [id, record] })
    },
  }
}

function set(model: Model, canceller: Canceller): void {
  model.canceller = canceller
}

/** Tells the workers. One that has no attempt of the call remembers it for a moment: BullMQ may be handing the job over. */
function abort(model: Model, call: number): void {
  ;(model.calls[call] as AppCall).abortUntilMs = model.atMs + SLOW_ABORT_MS
  model.workers = model.workers.map((worker): Worker => {
    const ended = worker.phase === 'completing' || worker.phase === 'failing'
    return worker.start?.call === call && !ended ? { ...worker, aborted: true } : worker
  })
}
