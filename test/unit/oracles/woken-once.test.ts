import { expect, test } from 'vitest'
import { agentLimit, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 1000, burst: 1000 })
const reports = (book: FactBook) => book.reports('woken once').map(({ text }) => text)
const handed = (book: FactBook, call: string, times: readonly number[]) => {
  for (const atMs of times) book.note({ fact: 'handed', atMs, call, to: 'w' })
  return book
}

test('a job that is handed out once, and starts, is woken once', () => {
  expect(reports(handed(new FactBook(BUCKET).done('a', 10), 'a', [9]))).toEqual([])
})

test('a job that comes back again and again is reported', () => {
  const book = handed(new FactBook(BUCKET).done('a', 50_000), 'a', [10_000, 20_000, 30_000, 49_999])
  expect(reports(book)).toEqual(['a was handed to workers 4 times; 1 are due, and 2 more are allowed (0 disturbances)'])
})

test('each disturbance may cost a call one more, and that of another call none', () => {
  const book = handed(new FactBook(BUCKET).done('a', 50_000), 'a', [10_000, 20_000, 30_000, 49_999])
  expect(reports(book.fault('removed job', 1, { call: 'b' }))).toHaveLength(1)
  expect(reports(book.fault('cut', 2))).toEqual([])
})

test('a job that is tried again, and one of a plain producer, may have to wait before each start', () => {
  const tried = new FactBook(BUCKET).call('a').run('a', 10, { how: 'failed' }).run('a', 2000)
  expect(reports(handed(tried, 'a', [9, 1000, 1999]))).toEqual([])
  const plain = (book: FactBook) => reports(handed(book, 'p', [9, 100, 200, 300]))
  expect(plain(new FactBook(BUCKET).call('p', { door: 'plain job' }).run('p', 300))).toEqual([])
  expect(plain(new FactBook(BUCKET).call('p').run('p', 300))).toHaveLength(1)
})

test('many jobs that are each handed out twice are reported together', () => {
  const book = new FactBook(BUCKET)
  for (let n = 0; n < 20; n++) handed(book.done(`k${n}`, 100 + n), `k${n}`, [50 + n, 99 + n])
  expect(reports(book)).toEqual(['20 calls were handed to workers 20 times more than they started; 7 are allowed'])
  expect(reports(book.fault('stop', 40, { process: 'w' }))).toEqual([])
})

test('a job that workers take without a pause is reported, however sick the fleet is', () => {
  const book = handed(
    new FactBook(BUCKET).done('a', 5000),
    'a',
    Array.from({ length: 14 }, (_, n) => 100 * n),
  )
  for (let n = 0; n < 20; n++) book.fault('cut', n)
  expect(reports(book)).toEqual(['a was handed to workers more than 12 times in 5000 ms'])
})
