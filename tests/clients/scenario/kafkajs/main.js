// The scenario with kafkajs.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const { Kafka, CompressionCodecs, CompressionTypes, KafkaJSError, PartitionAssigners, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4js')
const xxh32 = require('lz4js/xxh32.js')
const zstd = require('@mongodb-js/zstd')

CompressionCodecs[CompressionTypes.Snappy] = snappy
// The frames of lz4js claim that their blocks are linked, which Kafka refuses. Below 4 MiB a frame has one block.
function independent(frame) {
  frame[4] |= 0x20
  frame[6] = xxh32.hash(0, frame, 4, 2) >> 8
  return frame
}

CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => independent(Buffer.from(lz4.compress(encoder.buffer))),
  decompress: async buffer => Buffer.from(lz4.decompress(buffer)),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zstd.compress(encoder.buffer),
  decompress: async buffer => zstd.decompress(buffer),
})

const [bootstrap, name] = process.argv.slice(2)
const ALONE = !bootstrap.includes(',')
const COUNT = 120, GROUP_COUNT = 2000, MORE = 100, LARGEST = 1_048_516
const SIZES = [1, 10, 100, 1000, 10_000, 300_000]
const BASE = Date.now() - 100_000
const DEADLINE = Date.now() + 90_000
const PATTERN = Buffer.alloc(1_054_200, Buffer.from(Array.from({ length: 251 }, (_, i) => i)))
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }
// on TLS if there is a directory of keys and certificates
const dir = process.env.SCENARIO_TLS
const read = file => fs.readFileSync(`${dir}/${file}`)
const ssl = dir && { ca: [read('ca.crt')], cert: read('client.crt'), key: read('client.key') }
const kafka = new Kafka({ brokers: bootstrap.split(','), clientId: name, logLevel: logLevel.NOTHING, ssl })

const key = i => i % 3 === 0 ? null : Buffer.from(`k${i}`)
const value = i => i % 10 === 0 ? null : PATTERN.subarray(7 * i % 251, 7 * i % 251 + SIZES[i % 6])

async function wait(what, condition) {
  while (!await condition()) {
    assert(Date.now() < DEADLINE, what)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

async function producing(body) {
  const producer = kafka.producer({ idempotent: true })
  await producer.connect()
  const answer = await body(producer)
  await producer.disconnect()
  return answer
}

async function administration(admin) {
  const topic = `${name}-admin`
  const made = { topics: [{ topic, numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '1234567' }] }] }
  assert.equal(await admin.createTopics(made), true)
  assert.equal(await admin.createTopics(made), false, 'the topic is made twice')
  await wait('the topic is listed', async () => (await admin.listTopics()).includes(topic))
  const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
  await wait('three partitions', async () => await partitions() === 3)
  const { resources } = await admin.describeConfigs({ resources: [{ type: 2, name: topic, configNames: ['retention.ms'] }] })
  assert.equal(resources[0].configEntries[0].configValue, '1234567')
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  await wait('five partitions', async () => await partitions() === 5)
  await admin.deleteTopics({ topics: [topic] })
  await wait('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
}

// kafkajs cannot write a header that is null, so `n` is empty.
function same(message, i) {
  assert.equal(message.offset, `${i}`)
  assert.deepEqual(message.key, key(i))
  assert.deepEqual(message.value, value(i))
  assert.equal(message.timestamp, `${BASE + i}`)
  assert.deepEqual(message.headers, { a: [Buffer.from('1'), Buffer.from([0xff])], n: Buffer.from('') })
}

// kafkajs reads only in groups, so a group of one member reads the codecs and seeks.
async function codec(codecName, admin) {
  const topic = `${name}-${codecName}`
  const messages = Array.from({ length: COUNT }, (_, i) => ({ key: key(i), value: value(i), partition: 0,
    timestamp: `${BASE + i}`, headers: { a: ['1', Buffer.from([0xff])], n: '' } }))
  await producing(async producer => {
    for (let i = 0; i < COUNT; i += 10)
      await producer.send({ topic, compression: CODECS[codecName], messages: messages.slice(i, i + 10) })
  })
  const consumer = kafka.consumer({ groupId: topic, maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  let got = []
  await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => { got.push(message) } })
  await wait(`all of ${codecName}`, () => got.length >= COUNT)
  got.forEach(same)
  got = []
  consumer.seek({ topic, partition: 0, offset: '77' })
  await wait(`a seek in ${codecName}`, () => got.length >= COUNT - 77)
  same(got[0], 77)
  await consumer.disconnect()
  assert.equal((await admin.fetchTopicOffsetsByTimestamp(topic, BASE + 50))[0].offset, '50')
  assert.equal((await admin.fetchTopicOffsets(topic))[0].high, `${COUNT}`)
}

async function largest() {
  await producing(async producer => {
    const send = size => producer.send({ topic: `${name}-largest`, messages: [{ value: PATTERN.subarray(0, size) }] })
    await send(LARGEST)
    await assert.rejects(send(LARGEST + 1), error => error.type === 'MESSAGE_TOO_LARGE')
  })
}

async function fill(from, to) {
  const messages = Array.from({ length: to - from }, (_, i) => ({ key: `k${(from + i) % 97}`, value: `${from + i}` }))
  await producing(producer => producer.send({ topic: `${name}-group`, compression: CompressionTypes.LZ4, messages }))
}

async function group(admin) {
  const topic = `${name}-group`
  await admin.createTopics({ topics: [{ topic, numPartitions: 4 }] })
  await fill(0, GROUP_COUNT)
  const seen = new Set()
  const members = []
  for (let i = 0; i < 2; i++) {
    const consumer = kafka.consumer({ groupId: name, maxWaitTimeInMs: 100, heartbeatInterval: 300, sessionTimeout: 6000 })
    const member = { consumer, partitions: 0 }
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      member.partitions = (payload.memberAssignment[topic] || []).length
    })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ eachMessage: async ({ message }) => { seen.add(Number(message.value)) } })
    members.push(member)
  }
  const [first, second] = members
  await wait('two members share', () => first.partitions === 2 && second.partitions === 2 && seen.size === GROUP_COUNT)
  await wait('a stable group of two', async () => {
    const { groups } = await admin.describeGroups([name])
    return groups[0].state === 'Stable' && groups[0].members.length === 2
  })
  await first.consumer.disconnect()
  await wait('the other takes over', () => second.partitions === 4)
  seen.clear()
  await fill(GROUP_COUNT, GROUP_COUNT + MORE)
  await wait('the other reads on', () => [...seen].filter(i => i >= GROUP_COUNT).length >= MORE)
  assert(ALONE || Math.min(...seen) === GROUP_COUNT, 'what was committed is not read again')
  await second.consumer.disconnect()
  const [offsets] = await admin.fetchOffsets({ groupId: name, topics: [topic] })
  assert.equal(offsets.partitions.reduce((sum, { offset }) => sum + Number(offset), 0), GROUP_COUNT + MORE)
  await admin.deleteGroups([name])
}

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  await administration(admin)
  for (const codecName of Object.keys(CODECS)) await codec(codecName, admin)
  await largest()
  await group(admin)
  await admin.disconnect()
  console.log(`kafkajs ${require('kafkajs/package.json').version}: the scenario holds`)
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
