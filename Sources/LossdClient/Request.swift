import LossdTensor
import LossdWire

/// Encodes one EvaluateRequest as a MESSAGE frame, its tensors behind it in the payload.
func encodeRequest(
  _ connection: ClientConnection, _ call: ClientCall, function: String,
  inputs: [(name: String, tensor: Tensor)], options: EvaluationOptions?, id: UInt64,
  endStream: Bool, _ limits: HelloMessage
) throws(StatusError) -> OutgoingFrames {
  var offset = 0
  var offsets: [Int] = []
  for input in inputs {
    offset = TensorLayout.align64(offset)
    offsets.append(offset)
    offset += input.tensor.byteCount
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
              storage: .payload(
                offset: UInt64(offsets[index]), length: UInt64(input.tensor.byteCount))))
          shapeOffset += rank
          nameOffset += length
        }
        tensors.withUnsafeBufferPointer { tensors in
          let request = OutgoingRequest(
            function: function, inputs: tensors,
            attributes: (options?.attributes ?? [:]).map { ($0.key, $0.value) },
            outputs: (options?.outputs ?? []).map { ($0, nil) }, id: id)
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
  return OutgoingFrames(bytes: bytes, tensors: inputs.map(\.tensor))
}

/// A response's tensors, which share its payload's memory, and its Summary.
func decodeResponse(
  _ response: ClientCall.Response
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
        let view = try output.validated(payload: response.payload.bytes)
        evaluated.outputs.append(
          (String(decoding: output.name, as: UTF8.self), tensor(view, in: response.payload)))
      }
    } catch { failure = error }
  }
  if let failure { throw failure }
  return (evaluated, summary)
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
