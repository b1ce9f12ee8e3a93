#!/usr/bin/env node
// npm run demo, npm test, npm run bench: each from a bare clone, on a machine that has
// Node and npm. Only Node's own modules here: nothing else is there before the first run.
import { build, entries } from './build.mjs'
import { runChild } from './child.mjs'
import { binOf, installDependencies } from './dependencies.mjs'
import { Failure, Interrupted } from './failure.mjs'
import { needsNatsProgram, needsRedisProgram, startRedis } from './redis.mjs'

async function test(args) {
  await installDependencies()
  await needsRedisProgram()
  await needsNatsProgram()
  return runChild(process.execPath, [binOf('vitest', 'vitest'), 'run', ...args])
}

async function withRedis(name, args) {
  await installDependencies()
  await build(name)
  const redis = await startRedis()
  try {
    return await runChild(process.execPath, ['--enable-source-maps', entries[name], ...args], { env: { ...process.env, REDIS_URL: redis.url }, ipc: true })
  } finally {
    await redis.stop()
  }
}

const commands = {
  demo: (args) => withRedis('demo', args),
  bench: (args) => withRedis('bench', args),
  test,
}

const [name = '', ...args] = process.argv.slice(2)
try {
  if (!Object.hasOwn(commands, name)) throw new Failure(`usage: node scripts/run.mjs ${Object.keys(commands).join('|')} [arguments]`)
  process.exitCode = await commands[name](args)
} catch (error) {
  if (error instanceof Interrupted) process.exitCode = error.exitCode
  else if (error instanceof Failure) {
    console.error(error.message)
    process.exitCode = 1
  } else throw error
}
