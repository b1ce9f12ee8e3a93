import type { ContenderOptions } from '../contender-process.js'
import { compare } from './compare.js'
import type { Peer } from './peers.js'
import { Helper } from './processes.js'

/**
 * A connection in two ways: by default, and with auto-pipelining, which users of a peer may
 * turn on. The faster way of each peer counts.
 */
const CLIENTS = { '': false, ' (auto-pipelining)': true }

/** Each peer over either connection. */
export function overEach(peers: readonly Peer[]): Record<string, { contender: Peer; pipelined: boolean }> {
  return Object.fromEntries(
    peers.flatMap((contender) => Object.entries(CLIENTS).map(([client, pipelined]) => [`${contender}${client}`, { contender, pipelined }])),
  )
}

/**
 * The rates of contenders, each in a process of its own: in one process, garbage and object
 * shapes of one contender would slow the next.
 */
export async function compareProcesses<Name extends string>(
  common: Pick<ContenderOptions, 'redis' | 'namespace' | 'limits'>,
  contenders: Readonly<Record<Name, Omit<ContenderOptions, keyof typeof common>>>,
): Promise<Record<Name, number>> {
  const names = Object.keys(contenders) as Name[]
  const helpers = await Promise.all(names.map((name) => Helper.start('contender-process', { ...common, ...contenders[name] })))
  const rates = await compare(
    Object.fromEntries(names.map((name, index) => [name, (forMs: number) => (helpers[index] as Helper).request<number>('rate', forMs)])) as Record<
      Name,
      (forMs: number) => Promise<number>
    >,
  )
  await Promise.all(helpers.map((helper) => helper.stop()))
  return rates
}
