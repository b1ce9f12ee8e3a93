import { MemoryStore, Tollgate } from '../../src/index.js'

const store = new MemoryStore()
const one = await Tollgate.open({ store })
const other = await Tollgate.open({ store })
await one.limiter({ requests: 1, per: 'minute' }).check('user 1')
console.log((await other.limiter({ requests: 1, per: 'minute' }).check('user 1')).allowed)
await other.enqueue({ agent: 'openai' }).catch((error) => console.log(error.code))
await one.close()
await other.close()
