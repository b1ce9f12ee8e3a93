import type { LineFront } from './model.js'
import { contains } from './redis-states.js'
import type { Setting } from './setting.js'

/** The front door lets a call start at once: no call that meets the same meters, and has the same priority or a higher one, stands in a line. */
export function checkNewcomer(setting: Setting, newcomer: number): void {
  const redis = setting.states.end()
  const lines = redis.filter(({ name }) => name.startsWith(`${setting.keys.prefix}/l/`))
  const overtaken = setting.scope.calls.some((call, index) => {
    const goesBefore = index !== newcomer && isAlike(setting, index, newcomer) && (call.priority ?? 0) >= (setting.scope.calls[newcomer]?.priority ?? 0)
    return goesBefore && lines.some(({ name }) => contains(redis, name, setting.idOf(index)))
  })
  if (overtaken) setting.report('order: a newcomer may start while a call stands in line that meets the same meters')
}

/** Of the calls of a line that meet the same meters, the first are woken. */
export function checkWoken(setting: Setting, fronts: readonly LineFront[], woken: readonly string[]): void {
  const redis = setting.states.end()
  for (const [line, calls] of fronts) {
    const ids = calls.map(([id]) => id)
    const overtakes = (id: string, place: number) =>
      woken.includes(id) && ids.slice(0, place).some((before) => isAlike(setting, setting.callOf(before), setting.callOf(id)) && contains(redis, line, before))
    if (ids.some(overtakes)) setting.report('order: a call is woken while one stays in its line that stands before it and meets the same meters')
  }
}

/** Whether two calls meet the same meters at the same cost. */
function isAlike({ scope }: Setting, one: number, other: number): boolean {
  const [a, b] = [scope.calls[one], scope.calls[other]]
  return a?.agent === b?.agent && a?.org === b?.org && JSON.stringify(a?.cost) === JSON.stringify(b?.cost)
}
