import FuzzEvaluation
import FuzzSupport
import LossdEngine
import LossdTensor
import LossdWire

/// Encoded EvaluateRequests with their payload, from bytes to results, as the daemon takes them. An
/// input is two bytes of the message's length, the message, and bytes that the payload is filled
/// with again and again.
@main struct Requests {
  static let payloadBytes = 4096

  static func main() {
    fuzz { input in
      let length = Int(input.byte()) | Int(input.byte()) << 8
      withCopy(input.take(length)) { message in
        let pattern = input.rest()
        Trial { (attempt) throws(StatusError) in try evaluation(message, pattern, &attempt) }.run()
      }
    }
  }
}

/// A message's memory, which the evaluation borrows from.
private nonisolated(unsafe) let arena = MessageArena()

private func evaluation(
  _ message: UnsafeRawBufferPointer, _ pattern: UnsafeRawBufferPointer,
  _ attempt: inout Trial.Attempt
) throws(StatusError) -> Evaluation {
  arena.reset()
  let request = try EvaluateRequestMessage(decoding: message, in: arena)
  try request.validateNames()
  guard let entry = functions.find(request.function) else {
    throw StatusError(.notFound, "no function named `\(displayText(request.function))`")
  }
  let evaluation = Evaluation(entry)
  for index in 0..<request.attributeCount {
    let (name, value) = request.attribute(index)
    try evaluation.request.setAttribute(name, value)
  }
  for index in 0..<request.outputCount { try evaluation.request.want(request.output(index).name) }
  if request.outputCount == 0 { evaluation.request.wantDefault() }
  let payload = UnsafeMutableRawBufferPointer.allocate(
    byteCount: Requests.payloadBytes, alignment: 64)
  defer { payload.deallocate() }
  for index in payload.indices {
    payload[index] = pattern.isEmpty ? 0 : pattern[index % pattern.count]
  }
  for index in 0..<request.inputCount {
    let tensor = request.input(index)
    let view = try tensor.validated(payload: payload)
    // Each in memory of its own: whoever reads behind one is seen.
    let copy = ExactMemory(copying: UnsafeRawBufferPointer(start: view.data, count: view.byteCount))
    attempt.memory.append(copy)
    try evaluation.request.setInput(
      tensor.name,
      TensorView(data: copy.base, shape: view.shape, count: view.count, dataType: view.dataType))
  }
  return evaluation
}
