import { TollgateError } from '../model/errors.js'
import type { Figures } from './figures.js'
import type { CallBody } from './model.js'
import type { PageQuery } from './pages.js'

const isUnknown = (error: unknown) => error instanceof TollgateError && error.code === 'CALL_UNKNOWN'

/** Null where no such call is known. */
async function known<Answer>(asked: Promise<Answer>): Promise<Answer | null> {
  return asked.catch((error: unknown) => {
    if (isUnknown(error)) return null
    throw error
  })
}

/** A call: where it stands, and its whole life. */
export async function callBody({ source: tollgate }: Figures, { id }: PageQuery<'call'>): Promise<CallBody> {
  if (id === '') return { page: 'call', id, explanation: null, listed: null, history: null }
  const [explanation, history] = await Promise.all([known(tollgate.explain(id)), known(tollgate.history.call(id))])
  const { binding, position, state } = explanation ?? { binding: null, position: null, state: null }
  // Of a call in line the list knows whose it is: its line and place lead there.
  const listed =
    binding === null || position === null || state !== 'waiting'
      ? null
      : ((await tollgate.calls({ line: `${binding.rule}/${binding.scopeValue}`, from: Math.max(0, position - 2), limit: 5 })).calls.find(
          (one) => one.id === id,
        ) ?? null)
  return { page: 'call', id, explanation, listed, history }
}
