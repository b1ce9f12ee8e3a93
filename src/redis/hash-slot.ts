const SLOTS = 16_384

/** CRC-16/XMODEM, by which a Redis Cluster maps keys to slots. */
function crc16(bytes: Uint8Array): number {
  let crc = 0
  for (const byte of bytes) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff
  }
  return crc
}

/** What of a key decides about its slot: the text between its first `{` and the next `}`; undefined where there is none. */
export function hashTagOf(key: string): string | undefined {
  const start = key.indexOf('{')
  const end = key.indexOf('}', start + 1)
  return start < 0 || end <= start + 1 ? undefined : key.slice(start + 1, end)
}

/** The slot of a key in a Redis Cluster. */
export function slotOf(key: string): number {
  return crc16(Buffer.from(hashTagOf(key) ?? key)) % SLOTS
}
