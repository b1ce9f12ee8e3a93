import type { ContenderOptions } from '../contender-process.js'
import { compare } from './compare.js'
import type { Peer } from './peers.js'
import { Helper } from './processes.js'

/**
 * The same connection in two ways: as it comes, and with the commands of one turn written
 * together, an option for whoever uses a peer. Each peer counts as it is faster.
 */
const CLIENTS = { '': false, ' (auto-pipelining)': true }

/** Each peer over either connection. */
export function overEach(peers: readonly Peer[]): Record<string, { contender: Peer; pipelined: boolean }> {
  return Object.fromEntries(
    peers.flatMap((contender) => Object.entries(CLIENTS).map(([client, pipelined]) => [`${contender}${client}`, { contender, pipelined }])),
  )
}

/**
 * The rates of contenders, each in a process of its own: within one they would share a heap
 * and a compiler, and the garbage and the shapes of one slow the next.
 */
export async function compareProcesses<Name extends string>(
  common: Pick<ContenderOptions, 'redis' | 'namespace' | 'limits'>,
  contenders: Readonly<Record<Name, Omit<ContenderOptions, keyof typeof common>>>,
): Promise<Record<Name, number>> {
  const names = Object.keys(contenders) as Name[]
  const helpers = await Promise.all(names.map((name) => Helper.start('contender-process', { ...common, ...contenders[name] })))
  const rates = await compare(
    Object.fromEntries(names.map((name, index) => [name, (forMs: number) => (helpers[index] as Helper).ask<number>('rate', forMs)])) as Record<
      Name,
      (forMs: number) => Promise<number>
    >,
  )
  await Promise.all(helpers.map((helper) => helper.stop()))
  return rates
}
