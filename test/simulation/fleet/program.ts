import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { enter, replaceNode } from '../world/node-clock.js'
import { World } from '../world/world.js'

type Api = typeof import('../../../src/index.js')

/** What is simulated: the compiled program, with the unmodified BullMQ and ioredis that it uses. */
export interface Program {
  readonly Tollgate: Api['Tollgate']
  readonly UpstreamLimited: Api['UpstreamLimited']
  readonly Redis: typeof import('ioredis').Redis
  readonly Queue: typeof import('bullmq').Queue
}

let replaced = false

/** Loads a built project. Node's clock and timers are replaced before. @param root its folder, which has `dist/src` and `node_modules` */
export async function loadProgram(root: string): Promise<Program> {
  // A module may look at the clock while it is loaded.
  enter(new World(0))
  if (!replaced) replaceNode()
  replaced = true
  const require = createRequire(path.join(root, 'package.json'))
  const load = (file: string) => import(pathToFileURL(file).href)
  const api = (await load(path.join(root, 'dist/src/index.js'))) as Api
  const ioredis = (await load(require.resolve('ioredis'))) as typeof import('ioredis')
  const bullmq = (await load(require.resolve('bullmq'))) as typeof import('bullmq')
  return { Tollgate: api.Tollgate, UpstreamLimited: api.UpstreamLimited, Redis: ioredis.Redis, Queue: bullmq.Queue }
}
