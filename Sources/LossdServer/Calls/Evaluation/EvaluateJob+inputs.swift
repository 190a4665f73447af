import LossdEngine
import LossdTensor
import LossdWire

// From the request's message to the evaluation's inputs, attributes and outputs.
extension EvaluateJob {
  /// Begins an evaluation of the function that the request names, with its attributes and outputs.
  /// - Parameter mayPlace: results may go to the client's memory; a stream's all would go to the
  ///   same place.
  func beginEvaluation(
    _ table: FunctionTable, _ call: Call, mayPlace: Bool
  ) throws(StatusError) -> Evaluation {
    guard let request else { throw StatusError(.internal, "no request") }
    guard !request.function.isEmpty else {
      throw StatusError(.invalidArgument, "the request names no function")
    }
    guard let entry = table.find(request.function) else {
      let name = displayText(request.function)
      throw StatusError(.notFound, "no function named `\(name)`" + table.didYouMean(name))
    }
    evaluation(for: entry).begin(entry)
    guard let evaluation else { throw StatusError(.internal, "no evaluation") }
    for index in 0..<request.attributeCount {
      let (name, value) = request.attribute(index)
      try evaluation.request.setAttribute(name, value)
    }
    shared.places.removeAll()
    for index in 0..<request.outputCount {
      let (name, into) = request.output(index)
      try evaluation.request.want(name)
      guard let into else { continue }
      try prefixed(entry.name) { () throws(StatusError) in
        guard mayPlace else {
          throw StatusError(
            .invalidArgument,
            "\(displayText(name)): `into` is for Evaluate alone: all batches of a stream would go "
              + "there"
          )
        }
        try place(index, displayText(name), into, call)
      }
    }
    if request.outputCount == 0 { evaluation.request.wantDefault() }
    noteBegun()
    return evaluation
  }

  /// Gives the evaluation the request's tensors, the first time; while the payload is still to
  /// come, without its elements, which a later call gives.
  func setInputs(_ call: Call) throws(StatusError) {
    guard let request, let evaluation else { return }
    if hasSetInputs { return placePayload(request, evaluation) }
    let isPayloadThere = payload != nil || payloadBytes <= ownPayload.count
    let inline = try copyInlineTensors(request, evaluation.entry.name)
    var offset = 0
    for index in 0..<request.inputCount {
      let input = request.input(index)
      if case .shared(let region, let begin, let length) = input.storage {
        let range = SharedRange(region: region, offset: begin, length: length)
        try prefixed(evaluation.entry.name) { () throws(StatusError) in
          try setShared(input, range, call)
        }
        continue
      }
      var view = try prefixed(evaluation.entry.name) { () throws(StatusError) in
        try input.validated(payload: payloadMemory)
      }
      if let inline, case .inline = input.storage, view.count > 0 {
        let copy = inline + offset
        offset += TensorLayout.align64(view.byteCount)
        view = TensorView(
          data: copy, shape: view.shape, count: view.count, dataType: view.dataType)
      } else if !isPayloadThere {
        view = TensorView(data: nil, shape: view.shape, count: view.count, dataType: view.dataType)
      }
      try evaluation.request.setInput(input.name, view)
    }
    evaluation.request.ownInputs = ownInputs(request, evaluation)
    hasSetInputs = true
  }

  /// The payload has come: its tensors lie there.
  private func placePayload(_ request: EvaluateRequestMessage, _ evaluation: Evaluation) {
    for index in 0..<request.inputCount {
      guard case .payload(let begin, let length) = request.input(index).storage, length > 0,
        let place = evaluation.entry.input(named: request.input(index).name)
      else { continue }
      evaluation.request.moveInput(place, to: payloadBase + Int(begin))
    }
  }

  /// Inputs of the stream that this batch did not bring itself.
  func addKept(_ inputs: [KeptInput]) throws(StatusError) {
    guard let evaluation, kept.isEmpty else { return }
    for input in inputs where !evaluation.request.hasInput(input.index) {
      try evaluation.request.setInput(input.name, input.view)
      kept.append(input)
    }
  }

  /// Kernels read 64-byte-aligned memory; a protobuf field is not.
  private func copyInlineTensors(
    _ request: EvaluateRequestMessage, _ function: String
  ) throws(StatusError) -> UnsafeMutableRawPointer? {
    var bytes = 0
    for index in 0..<request.inputCount {
      if case .inline(let data) = request.input(index).storage {
        bytes += TensorLayout.align64(data.count)
        // Its copy shares the payload's memory, which the next one overwrites.
        last.forget()
      }
    }
    if bytes == 0 { return nil }
    // The payload, where there is one, has its own memory or the front of the job's.
    let front = payloadBytes <= ownPayload.count ? TensorLayout.align64(payloadBytes) : 0
    var base: UnsafeMutableRawPointer
    if front + bytes <= ownPayload.count {
      base = ownPayload.base + front
    } else {
      try takeSmall(bytes, "inline tensors of \(bytes) bytes")
      let buffer = try AlignedBuffer(reserving: bytes)
      inlineTensors = buffer
      base = buffer.base
    }
    let start = base
    for index in 0..<request.inputCount {
      guard case .inline(let data) = request.input(index).storage, let source = data.baseAddress
      else { continue }
      base.copyMemory(from: source, byteCount: data.count)
      base += TensorLayout.align64(data.count)
    }
    return start
  }

  /// Inputs, by bit, that lie in the payload of this call and overlap no other: results may take
  /// their places.
  private func ownInputs(
    _ request: EvaluateRequestMessage, _ evaluation: Evaluation
  ) -> UInt64 {
    guard payloadBytes > ownPayload.count, !evaluation.entry.isForeign else { return 0 }
    var mask: UInt64 = 0
    for index in 0..<request.inputCount {
      guard case .payload(let begin, let length) = request.input(index).storage,
        length > UInt64(ResultBytes.copiedBytesMax),
        let place = evaluation.entry.input(named: request.input(index).name)
      else { continue }
      let overlaps = (0..<request.inputCount).contains { other in
        guard other != index, case .payload(let from, let size) = request.input(other).storage
        else { return false }
        return from < begin + length && begin < from + size
      }
      if !overlaps { mask |= 1 << UInt64(place) }
    }
    return mask
  }
}
