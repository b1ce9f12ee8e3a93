import { defineConfig } from 'vitest/config'
import { dashboardPlugin } from './scripts/dashboard.mjs'
import { luaTextPlugin } from './scripts/lua-text.mjs'

export default defineConfig({
  plugins: [luaTextPlugin(), dashboardPlugin()],
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/no-leaks.ts', 'test/support/runs.ts'],
    // Two cores: more files at once only make each other late.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['default', './test/support/closing-line.ts'],
  },
})
