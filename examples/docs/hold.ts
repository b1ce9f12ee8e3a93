import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({
  rules: [{ name: 'account', scope: 'agent', limits: [{ requests: 2, per: 'second', burst: 1 }] }],
})
const held = tollgate.hold()
const names = ['Ada', 'Grace', 'Edsger']
const answers = names.map((name) => held.run({ agent: 'greeter', payload: name }, async ({ payload }) => `hello, ${payload}`))
console.log(await Promise.all(answers))
await tollgate.close()
