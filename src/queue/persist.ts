import { setTimeout as sleep } from 'node:timers/promises'
import { DEFAULTS } from '../config/defaults.js'
import { isStoreError } from '../redis/store-error.js'

/**
 * Does something until Redis takes it: again after 100 ms, then each time later, up to 2 s.
 * @param given told of each failure; throws where it is not to be tried any more
 */
export async function persist<T>(work: () => Promise<T>, given: (error: Error) => void): Promise<T> {
  for (let delayMs: number = DEFAULTS.storeRetryMs; ; delayMs = Math.min(DEFAULTS.longestStoreRetryMs, delayMs * 2)) {
    try {
      return await work()
    } catch (error) {
      if (!isStoreError(error)) throw error
      given(error)
      // Not all at once: workers that were refused together would ask together.
      await sleep(delayMs * (0.5 + Math.random() / 2))
    }
  }
}
