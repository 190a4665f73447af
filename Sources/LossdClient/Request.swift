import LossdTensor
import LossdWire

/// Encodes one EvaluateRequest as a MESSAGE frame, its tensors behind it in the payload, but for
/// those that lie in memory which the connection shares. `places`: where results go that shall lie
/// in such memory; others are ignored.
func encodeRequest(
  _ connection: ClientConnection, _ call: ClientCall, function: String,
  inputs: [(name: String, tensor: Tensor)], options: EvaluationOptions?, id: UInt64,
  endStream: Bool, _ limits: HelloMessage, into places: [String: Tensor] = [:],
  summaries: [SummaryMessage] = []
) throws(StatusError) -> OutgoingFrames {
  var offset = 0
  var storages: [TensorStorage] = []
  var payload: [Tensor] = []
  for input in inputs {
    let length = UInt64(input.tensor.byteCount)
    if length > 0, let place = SharedMemory.place(of: input.tensor, on: connection) {
      storages.append(.shared(region: place.region, offset: place.offset, length: length))
      continue
    }
    offset = TensorLayout.align64(offset)
    storages.append(.payload(offset: UInt64(offset), length: length))
    payload.append(input.tensor)
    offset += input.tensor.byteCount
  }
  let outputs = (options?.outputs ?? []).map { name in
    (name: name, into: places[name].flatMap { range(of: $0, on: connection) })
  }
  let limit = min(
    limits.maxPayloadBytes == 0 ? UInt64(UInt32.max) : limits.maxPayloadBytes, UInt64(UInt32.max))
  if UInt64(offset) > limit {
    throw StatusError(
      .resourceExhausted,
      "the tensors take \(offset) bytes, the server takes payloads of up to \(limit) "
        + "(limits.payload_bytes)")
  }
  let shapes = inputs.flatMap { $0.tensor.shape.map { Int64($0) } }
  let names = inputs.map { Array($0.name.utf8) }
  let messageLimit = limits.maxMessageBytes == 0 ? UInt32.max : limits.maxMessageBytes
  let bytes = try connection.encodeThrowing { buffer throws(StatusError) in
    var tensors: [OutgoingTensor] = []
    var failure: StatusError?
    let nameBytes = names.flatMap { $0 }
    shapes.withUnsafeBufferPointer { shapes in
      nameBytes.withUnsafeBytes { nameBytes in
        var shapeOffset = 0
        var nameOffset = 0
        for (index, input) in inputs.enumerated() {
          let rank = input.tensor.shape.count
          let length = names[index].count
          tensors.append(
            OutgoingTensor(
              name: UnsafeRawBufferPointer(rebasing: nameBytes[nameOffset..<nameOffset + length]),
              dataType: input.tensor.dataType,
              shape: UnsafeBufferPointer(rebasing: shapes[shapeOffset..<shapeOffset + rank]),
              storage: storages[index]))
          shapeOffset += rank
          nameOffset += length
        }
        tensors.withUnsafeBufferPointer { tensors in
          let request = OutgoingRequest(
            function: function, inputs: tensors,
            attributes: (options?.attributes ?? [:]).map { ($0.key, $0.value) },
            outputs: outputs, id: id, summaries: summaries)
          do throws(StatusError) {
            try buffer.encodeFrame(
              request: request, stream: call.stream, endStream: endStream,
              payloadLength: UInt32(offset), maxMessageBytes: messageLimit)
          } catch { failure = error }
        }
      }
    }
    if let failure { throw failure }
  }
  return OutgoingFrames(bytes: bytes, tensors: payload)
}

/// What of shared memory a result is to fill; nil where it is not the connection's.
private func range(of tensor: Tensor, on connection: ClientConnection) -> SharedRange? {
  guard tensor.byteCount > 0, let place = SharedMemory.place(of: tensor, on: connection) else {
    return nil
  }
  return SharedRange(
    region: place.region, offset: place.offset, length: UInt64(tensor.byteCount))
}

/// A response's tensors, which share its payload's memory or lie in `places`, and its Summary.
func decodeResponse(
  _ response: ClientCall.Response, into places: [String: Tensor] = [:]
) throws(StatusError) -> (evaluated: Evaluated, summary: SummaryMessage?) {
  let arena = MessageArena()
  var failure: StatusError?
  var evaluated = Evaluated(id: 0, outputs: [])
  var summary: SummaryMessage?
  response.message.withUnsafeBytes { bytes in
    do throws(StatusError) {
      let message = try EvaluateResponseMessage(decoding: bytes, in: arena)
      evaluated.id = message.id
      summary = message.summary
      for index in 0..<message.outputCount {
        let output = message.output(index)
        if case .shared(let region, let offset, let length) = output.storage {
          let name = String(decoding: output.name, as: UTF8.self)
          let range = SharedRange(region: region, offset: offset, length: length)
          evaluated.outputs.append((name, try placed(output, range, places[name])))
          continue
        }
        let view = try output.validated(payload: response.payload.bytes)
        evaluated.outputs.append(
          (String(decoding: output.name, as: UTF8.self), tensor(view, in: response.payload)))
      }
    } catch { failure = error }
  }
  if let failure { throw failure }
  return (evaluated, summary)
}

/// A result in shared memory, which is where it was asked for.
private func placed(
  _ output: TensorMessage, _ found: SharedRange, _ place: Tensor?
) throws(StatusError) -> Tensor {
  let layout = try output.layout()
  guard let place, let memory = place.sharedMemory, layout.byteCount == place.byteCount,
    let asked = range(of: place, on: memory.connection), asked == found
  else {
    throw StatusError(.internal, "\(output.displayName) is not where it was asked for")
  }
  return Tensor(
    dataType: layout.dataType, shape: layout.shape.map { Int($0) }, buffer: place.buffer,
    offset: place.offset)
}

private func tensor(_ view: TensorView, in payload: AlignedBuffer) -> Tensor {
  let shape = view.shape.map { Int($0) }
  guard let data = view.data else {
    return Tensor(dataType: view.dataType, shape: shape, buffer: AlignedBuffer(count: 0))
  }
  if payload.bytes.contains(address: data) {
    return Tensor(
      dataType: view.dataType, shape: shape, buffer: payload,
      offset: data - payload.base)
  }
  let copy = AlignedBuffer(count: view.byteCount)
  copy.base.copyMemory(from: data, byteCount: view.byteCount)
  return Tensor(dataType: view.dataType, shape: shape, buffer: copy)
}

extension UnsafeMutableRawBufferPointer {
  fileprivate func contains(address: UnsafeMutableRawPointer) -> Bool {
    guard let base = baseAddress else { return false }
    return address >= base && address < base + count
  }
}
