#!/usr/bin/env node
// npm run build, demo, screenshots, test, failovers, bench, simulate, files-entered: all but build run from a bare clone, on a machine
// with Node and npm. Imports only modules of Node: before the first run no package is installed.
import { build, buildCommonJs, buildModules, buildPackage, entries } from './build.mjs'
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

/** Failovers by Sentinel in mid-run, each judged by what the agent saw. @param args how many of each kind */
async function failovers([seeds = '20']) {
  process.env.SEEDS = seeds
  return test(['test/topologies/failover-audit.test.ts'])
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

/** The simulation starts a Redis of its own, on a clock of its own. */
async function simulate(args) {
  await installDependencies()
  await build('simulate')
  await needsRedisProgram()
  return runChild(process.execPath, ['--enable-source-maps', entries.simulate, ...args])
}

const PARTS = { modules: buildModules, cjs: buildCommonJs, all: buildPackage }

/** @param args the part to build: modules, cjs, or all (the default) */
async function buildPart([part = 'all']) {
  if (!Object.hasOwn(PARTS, part)) throw new Failure(`usage: node scripts/run.mjs build ${Object.keys(PARTS).join('|')}`)
  await PARTS[part]()
  return 0
}

const commands = {
  build: buildPart,
  demo: (args) => withRedis('demo', args),
  screenshots: (args) => withRedis('screenshots', args),
  bench: (args) => withRedis('bench', args),
  'files-entered': (args) => withRedis('files-entered', args),
  failovers,
  simulate,
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
