// A loss and its gradient by gRPC, then the exact loss of a data set in batches, with nothing but Node's own http2: gRPC is
// POST, five bytes in front of each message, and a status in the trailers. Debian has no grpc-js; with npm, @grpc/grpc-js and
// @grpc/proto-loader do the same from lossd.proto.
//
//     node evaluate.mjs 127.0.0.1:5677        (or unix:/run/lossd/lossd.sock)

import http2 from 'node:http2';
import net from 'node:net';

const LOGITS = [[2, 1, 0], [0, 1, 2]];
const LABELS = [0, 1];

// ---- protobuf, as much as is needed

function varint(value) {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push(value % 128 + 128);
  return Buffer.from([...bytes, value]);
}

const block = (field, data) => Buffer.concat([varint(field * 8 + 2), varint(Buffer.byteLength(data)), Buffer.from(data)]);

// A message's fields by number: buffers, and numbers.
function parse(data) {
  const fields = {};
  let at = 0;
  const number = () => {
    let value = 0, factor = 1, byte;
    do {
      byte = data[at++];
      value += (byte & 127) * factor;
      factor *= 128;
    } while (byte >= 128);
    return value;
  };
  while (at < data.length) {
    const tag = number();
    let value;
    if (tag % 8 === 0) {
      value = number();
    } else {
      const length = tag % 8 === 1 ? 8 : number();
      value = data.subarray(at, at + length);
      at += length;
    }
    (fields[Math.floor(tag / 8)] ??= []).push(value);
  }
  return fields;
}

// ---- lossd.proto's messages

const tensor = (name, type, shape, data) => block(2, Buffer.concat([
  block(1, name), Buffer.from([0x10, type]), block(3, Buffer.concat(shape.map(varint))), block(4, data)]));

const bytesOf = (array) => Buffer.from(array.buffer);

const request = (name, logits, labels, ...outputs) => Buffer.concat([
  block(1, name), tensor('input', 1, [logits.length, 3], bytesOf(new Float32Array(logits.flat()))),
  tensor('target', 5, [labels.length], bytesOf(new BigInt64Array(labels.map(BigInt)))),
  ...outputs.map((output) => block(4, block(1, output)))]);

const floats = (output) => {
  const data = parse(output)[4][0];
  return Array.from({ length: data.length / 4 }, (_, index) => data.readFloatLE(4 * index));
};

// ---- gRPC

function call(session, method, requests) {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST', ':path': `/lossd.v1.Evaluator/${method}`, 'content-type': 'application/grpc', te: 'trailers',
      'grpc-timeout': '5S' });
    const parts = [];
    let status;
    const take = (headers) => { if (headers['grpc-status'] !== undefined) status = headers; };
    stream.on('response', take).on('trailers', take).on('data', (part) => parts.push(part)).on('error', reject);
    stream.on('close', () => {
      const answer = { code: Number(status?.['grpc-status'] ?? 2), text: decodeURIComponent(status?.['grpc-message'] ?? ''),
        messages: [] };
      const data = Buffer.concat(parts);
      for (let at = 0; at + 5 <= data.length;) {
        const length = data.readUInt32BE(at + 1);
        answer.messages.push(data.subarray(at + 5, at + 5 + length));
        at += 5 + length;
      }
      resolve(answer);
    });
    for (const message of requests) {
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      stream.write(Buffer.concat([prefix, message]));
    }
    stream.end();
  });
}

const address = process.argv[2];
const session = address.startsWith('unix:')
  ? http2.connect('http://localhost', { createConnection: () => net.connect(address.slice(5)) })
  : http2.connect(`http://${address}`);

const one = await call(session, 'Evaluate', [request('cross_entropy', LOGITS, LABELS, 'loss', 'grad.input')]);
const [loss, gradient] = parse(one.messages[0])[2].map(floats);
console.log('loss', loss[0].toFixed(6));
console.log('gradient', ...gradient.map((value) => value.toFixed(6)));

// The first names the function; each brings a row.
const batches = await call(session, 'EvaluateStream', LOGITS.map(
  (row, index) => request(index === 0 ? 'cross_entropy' : '', [row], [LABELS[index]])));
const summary = parse(parse(batches.messages.at(-1))[3][0]);
const values = Object.fromEntries(summary[3].map(parse).map((entry) => [entry[1][0].toString(), entry[2][0].readDoubleLE()]));
console.log(`of ${summary[2][0]} rows ${values.loss.toFixed(6)}`);

const wrong = await call(session, 'Evaluate', [block(1, 'cross_entropi')]);
if (wrong.code === 5) console.log('NOT_FOUND', wrong.text);
session.close();
