import type { Body } from '../model.js'

/** Puts what was there before first, in its old order; what is new follows. */
export function keepOrder<One>(before: readonly One[], now: readonly One[], key: (one: One) => string): readonly One[] {
  const places = new Map(before.map((one, n) => [key(one), n]))
  const place = (one: One) => places.get(key(one)) ?? before.length
  return now
    .map((one, n) => ({ one, n }))
    .sort((a, b) => place(a.one) - place(b.one) || a.n - b.n)
    .map(({ one }) => one)
}

/** The new figures in the order of the old ones: nothing moves away under the pointer or the focus. */
export function steady(before: Body, now: Body): Body {
  if (before.page === 'lines' && now.page === 'lines') return { ...now, rows: keepOrder(before.rows, now.rows, ({ line }) => line) }
  if (before.page === 'budgets' && now.page === 'budgets') return { ...now, rows: keepOrder(before.rows, now.rows, ({ name }) => name) }
  if (before.page === 'now' && now.page === 'now')
    return {
      ...now,
      limitedBy: keepOrder(before.limitedBy, now.limitedBy, ({ rule, limit }) => `${rule} ${limit}`),
      groups: now.groups.map((group) => {
        const old = before.groups.find(({ spec }) => spec.name === group.spec.name)
        return old === undefined ? group : { ...group, values: keepOrder(old.values, group.values, ({ value }) => value) }
      }),
    }
  return now
}
