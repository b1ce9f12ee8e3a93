import { readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { TollgateError } from '../../src/index.js'
import { HELPFUL_COMMANDS, NEEDED_COMMANDS } from '../../src/redis/permissions.js'
import { newNamespace } from '../support/namespace.js'
import { behaves } from './support/behaviour.js'
import { type RedisNode, startNode } from './support/node.js'

let node: RedisNode

/** A user with these rights, and the URL by which it logs in. */
async function user(name: string, ...rights: string[]): Promise<string> {
  await node.client.call('acl', 'setuser', name, 'reset', 'on', '>secret', ...rights)
  return `redis://${name}:secret@127.0.0.1:${node.port}`
}

const ALL = NEEDED_COMMANDS.map((command) => `+${command}`)

beforeAll(async () => {
  node = await startNode()
})
afterAll(() => node.stop())

describe('with exactly the commands that docs/operations.md lists, on the keys and channels of its namespaces', () => {
  let url: string
  beforeAll(async () => {
    url = await user('exact', '~{tollgate:*', '&{tollgate:*', ...ALL)
  })
  behaves(() => ({ url: `redis://127.0.0.1:${node.port}`, redis: () => url, stop: async () => {} }))
})

describe('with the commands of functions besides', () => {
  let url: string
  beforeAll(async () => {
    url = await user('functions', '~{tollgate:*', '&{tollgate:*', ...ALL, ...HELPFUL_COMMANDS.map((command) => `+${command}`))
  })
  behaves(() => ({ url: `redis://127.0.0.1:${node.port}`, redis: () => url, stop: async () => {} }))
})

test('docs/operations.md lists these commands, and no others', () => {
  const [, listed = ''] = /### What a user of Redis needs[^`]*(?:`[^`]+`[^`]*)*```text\n([^`]*)```/.exec(readFileSync('docs/operations.md', 'utf8')) ?? []
  expect(listed.trim().split(/\s+/)).toEqual(ALL)
})

test.each(NEEDED_COMMANDS)('without %s a Tollgate does not open, and the error names the command', async (command) => {
  const url = await user('less', '~*', '&*', ...ALL.filter((one) => one !== `+${command}`))
  const namespace = newNamespace(`redis://127.0.0.1:${node.port}`)
  const opened = namespace.open({ redis: url, rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 1, per: 'hour' }] }] })
  await expect(opened).rejects.toBeInstanceOf(TollgateError)
  await expect(opened).rejects.toThrow(new RegExp(`NOPERM.*\\b${command.replace('|', '\\|')}\\b`))
})

test('with replicas a Tollgate needs WAIT besides, and the error names it', async () => {
  const namespace = newNamespace(`redis://127.0.0.1:${node.port}`)
  await expect(namespace.open({ redis: await user('waitless', '~*', '&*', ...ALL), replicas: 1 })).rejects.toThrow(/NOPERM.*\+wait\b/)
  expect((await (await namespace.open({ redis: await user('waiting', '~*', '&*', ...ALL, '+wait'), replicas: 1 })).gate.peek({ agent: 'a' })).allowed).toBe(
    true,
  )
})

test('without its keys or channels a Tollgate does not open, and the error says which', async () => {
  const namespace = newNamespace(`redis://127.0.0.1:${node.port}`)
  await expect(namespace.open({ redis: await user('keyless', '~other*', '&*', ...ALL) })).rejects.toThrow(`~${namespace.keys.prefix}*`)
  await expect(namespace.open({ redis: await user('deaf', '~*', '&other*', ...ALL) })).rejects.toThrow(`&${namespace.keys.prefix}*`)
})

test('a client without INFO is served', async () => {
  const url = await user('quiet', '~*', '&*', '+@all', '-@dangerous', '-function')
  const client = new Redis(url, { maxRetriesPerRequest: null, enableReadyCheck: false })
  try {
    await expect(newNamespace(`redis://127.0.0.1:${node.port}`).open({ redis: client })).rejects.toThrow(/info/)
  } finally {
    client.disconnect()
  }
})
