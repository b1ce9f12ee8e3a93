#!/usr/bin/env node
import { createRequire } from 'node:module'
import { EXIT, fail } from './common.js'
import { makeProgram } from './program.js'

const { version, description } = createRequire(import.meta.url)('tollgate/package.json') as { version: string; description: string }

try {
  await makeProgram(version, description).parseAsync()
} catch (error) {
  fail(error)
  // A connection that never came up keeps the process alive for two seconds more.
  if (process.exitCode === EXIT.unavailable) process.exit()
}
