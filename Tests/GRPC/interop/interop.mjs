// gRPC's interoperability cases with lossd's services, by Node's own http2 and no gRPC: interop.mjs ADDRESS. Prints a line for
// each case that holds.

import assert from 'node:assert/strict';
import http2 from 'node:http2';
import net from 'node:net';
import zlib from 'node:zlib';

const SPECIAL = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
const SHOWN = 'no function named `??test with whitespace??and Unicode BMP ☺ and non-BMP 😈??`';
const SIZES = [27182, 8, 1828, 45904];
const CANCEL = http2.constants.NGHTTP2_CANCEL;

function varint(value) {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push(value % 128 + 128);
  return Buffer.from([...bytes, value]);
}

const block = (field, data) => Buffer.concat([varint(field * 8 + 2), varint(Buffer.byteLength(data)), Buffer.from(data)]);

const values = (count) => Buffer.from(Float32Array.from({ length: count }, (_, index) => index % 100).buffer);

const relu = (name, count, data = values(count), id = count) => Buffer.concat([
  block(1, name), block(2, Buffer.concat([block(1, 'input'), Buffer.from([0x10, 1]), block(3, varint(count)), block(4, data)])),
  Buffer.from([0x28]), varint(id)]);

function message(data, how) {
  const body = how ? how(data) : data;
  const prefix = Buffer.alloc(5);
  prefix[0] = how ? 1 : 0;
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

// An open call: what comes is kept.
class Call {
  constructor(path, fields = {}) {
    this.stream = session.request({
      ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', 'grpc-timeout': '20S', ...fields });
    this.messages = [];
    this.fields = {};
    let data = Buffer.alloc(0);
    this.waiting = () => {};
    const take = (headers) => Object.assign(this.fields, headers);
    this.stream.on('response', take).on('trailers', take).on('error', () => {}).on('data', (part) => {
      data = Buffer.concat([data, part]);
      while (data.length >= 5 && data.length >= 5 + data.readUInt32BE(1)) {
        this.messages.push(data.subarray(5, 5 + data.readUInt32BE(1)));
        data = data.subarray(5 + data.readUInt32BE(1));
      }
      this.waiting();
    });
    this.closed = new Promise((resolve) => this.stream.on('close', resolve));
  }

  send(...messages) { for (const one of messages) this.stream.write(one); return this; }

  // So many messages have come.
  async has(count) {
    while (this.messages.length < count) await new Promise((resolve) => { this.waiting = resolve; });
  }

  async ends(code, text) {
    this.stream.end();
    await this.closed;
    const found = Number(this.fields['grpc-status']);
    const said = decodeURIComponent(this.fields['grpc-message'] ?? '');
    assert.equal(found, code, said);
    if (text !== undefined) assert.equal(said, text);
    return this;
  }

  // By the client.
  async cancel() {
    this.stream.close(CANCEL);
    await this.closed;
    assert.equal(this.fields['grpc-status'], undefined);
  }
}

const EVALUATE = '/lossd.v1.Evaluator/Evaluate';
const STREAM = '/lossd.v1.Evaluator/EvaluateStream';

async function answers(count, fields, how) {
  const call = await new Call(EVALUATE, fields).send(message(relu('relu', count), how)).ends(0);
  assert.equal(call.messages.length, 1);
  assert.ok(count === 0 || call.messages[0].includes(values(count)));
}

async function stream(isOneByOne, fields, how) {
  const call = new Call(STREAM, fields);
  for (const [index, count] of SIZES.entries()) {
    call.send(message(relu(index === 0 ? 'relu' : '', count), how));
    if (isOneByOne) await call.has(index + 1);
  }
  await call.ends(0);
  assert.equal(call.messages.length, SIZES.length + 1);
  for (const [index, count] of SIZES.entries()) assert.ok(call.messages[index].includes(values(count)));
}

const CASES = {
  empty_unary: () => new Call('/lossd.v1.Daemon/GetStatus').send(message(Buffer.alloc(0))).ends(0),
  large_unary: () => answers(271828),
  client_streaming: () => stream(false),
  server_streaming: async () => {
    const call = new Call('/grpc.health.v1.Health/Watch').send(message(Buffer.alloc(0)));
    await call.has(1);
    assert.deepEqual([...call.messages[0]], [8, 1]);
    await call.cancel();
  },
  ping_pong: () => stream(true),
  empty_stream: () => new Call(STREAM).ends(3, 'the stream ended before a request named a function'),
  cancel_after_begin: () => new Call(STREAM).cancel(),
  cancel_after_first_response: async () => {
    const call = new Call(STREAM).send(message(relu('relu', 100)));
    await call.has(1);
    await call.cancel();
  },
  timeout_on_sleeping_server: async () => {
    const call = new Call(STREAM, { 'grpc-timeout': '100m' }).send(message(relu('relu', 100)));
    await call.closed;
    assert.equal(call.fields['grpc-status'], '4');
  },
  special_status_message: () => new Call(EVALUATE).send(message(relu(SPECIAL, 1))).ends(5, SHOWN),
  status_code_and_message: async () => {
    await new Call(EVALUATE).send(message(relu('nothing', 1))).ends(5, 'no function named `nothing`');
    await new Call(STREAM).send(message(relu('nothing', 1))).ends(5, 'batch 1: no function named `nothing`');
  },
  unimplemented_method: () =>
    new Call('/lossd.v1.Evaluator/Nothing').ends(12, 'no method named `/lossd.v1.Evaluator/Nothing`'),
  unimplemented_service: () =>
    new Call('/lossd.v1.Nothing/Evaluate').ends(12, 'no method named `/lossd.v1.Nothing/Evaluate`'),
  custom_metadata: async () => {
    const fields = { 'x-lossd-test': 'value', 'x-lossd-test-bin': Buffer.from([0, 10, 255]).toString('base64') };
    await answers(10, fields);
    const call = new Call(STREAM, fields).send(message(relu('relu', 1)), message(relu('', 1, Buffer.from('123'), 7)));
    await call.ends(3);
    assert.equal(call.fields['lossd-batch-id'], '7');
  },
  client_compressed_unary: async () => {
    for (const count of [0, 1, 1000, 271828]) {
      await answers(count, { 'grpc-encoding': 'gzip' }, zlib.gzipSync);
      await answers(count, { 'grpc-encoding': 'deflate' }, zlib.deflateSync);
    }
  },
  client_compressed_streaming: () => stream(false, { 'grpc-encoding': 'gzip' }, zlib.gzipSync),
};

const address = process.argv[2];
const session = address.startsWith('unix:')
  ? http2.connect('http://localhost', { createConnection: () => net.connect(address.slice(5)) })
  : http2.connect(`http://${address}`);
for (const [name, run] of Object.entries(CASES)) {
  try {
    await run();
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
  console.log(name);
}
session.close();
