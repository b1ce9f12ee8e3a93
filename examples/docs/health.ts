import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open()
const { state, reason, sentence, next } = await tollgate.health()
console.log(`${state}, ${reason}: ${sentence} ${next.text}`)
await tollgate.close()
