import CLossdProto
import LossdTensor

/// Evaluate's messages. The response is a hot path: built in the scratch arena, packed in place.
extension OutputBuffer {
  /// A response's header and message; its payload of `payloadLength` bytes goes out after them.
  /// RESOURCE_EXHAUSTED when the message has more bytes than `maxMessageBytes`, and nothing is
  /// added.
  /// - Parameter encoded: the message's bytes, when it has been encoded before; else they are kept
  ///   there.
  public func encodeFrame(
    response: OutgoingResponse, stream: UInt32, endStream: Bool, payloadLength: UInt32,
    maxMessageBytes: UInt32 = .max, encoded: EncodedMessage? = nil
  ) throws(StatusError) {
    let header = FrameHeader(
      type: .message, streamID: stream, flags: endStream ? .endStream : [],
      payloadLength: payloadLength)
    if let encoded, !encoded.isEmpty, encoded.bytes.count <= Int(maxMessageBytes) {
      return appendFrame(header, encoded.bytes)
    }
    defer { scratch.reset() }
    let begin = count + FrameHeader.byteCount
    try appendFrame(header, packing: build(response), atMost: maxMessageBytes)
    encoded?.keep(UnsafeRawBufferPointer(rebasing: bytes[begin...]))
  }

  /// A response's message alone, for transports with frames of their own.
  public func encodeMessage(response: OutgoingResponse) {
    defer { scratch.reset() }
    appendMessage(build(response))
  }

  /// A request's header and message; its payload of `payloadLength` bytes goes out after them.
  /// INVALID_ARGUMENT for a name with a NUL; RESOURCE_EXHAUSTED when the message has more bytes
  /// than `maxMessageBytes`. Nothing is added then.
  public func encodeFrame(
    request: OutgoingRequest, stream: UInt32, endStream: Bool, payloadLength: UInt32,
    maxMessageBytes: UInt32 = .max
  ) throws(StatusError) {
    defer { scratch.reset() }
    let header = FrameHeader(
      type: .message, streamID: stream, flags: endStream ? .endStream : [],
      payloadLength: payloadLength)
    try appendFrame(header, packing: build(request), atMost: maxMessageBytes)
  }

  private func build(
    _ response: OutgoingResponse
  ) -> UnsafeMutablePointer<Lossd__V1__EvaluateResponse> {
    let raw = scratch.make(lossd__v1__evaluate_response__init)
    raw.pointee.id = response.id
    raw.pointee.n_outputs = response.outputs.count
    raw.pointee.outputs = scratch.list(response.outputs.count) { build(response.outputs[$0]) }
    if let summary = response.summary { raw.pointee.summary = build(summary) }
    return raw
  }

  private func build(_ summary: OutgoingSummary) -> UnsafeMutablePointer<Lossd__V1__Summary> {
    let raw = scratch.make(lossd__v1__summary__init)
    raw.pointee.batches = summary.batches
    raw.pointee.rows = summary.rows
    raw.pointee.n_values = summary.values.count
    raw.pointee.values = scratch.list(summary.values.count) { index in
      let entry = scratch.make(lossd__v1__summary__values_entry__init)
      entry.pointee.key = scratch.text(summary.values[index].name)
      entry.pointee.value = summary.values[index].value
      return entry
    }
    raw.pointee.n_state = summary.state.count
    raw.pointee.state = scratch.list(summary.state.count) { index in
      let entry = scratch.make(lossd__v1__summary__state_entry__init)
      entry.pointee.key = scratch.text(summary.state[index].name)
      entry.pointee.value = summary.state[index].value
      return entry
    }
    raw.pointee.whole = summary.whole?.build(scratch)
    return raw
  }

  private func build(_ tensor: OutgoingTensor) -> UnsafeMutablePointer<Lossd__V1__Tensor> {
    let raw = scratch.make(lossd__v1__tensor__init)
    raw.pointee.name = scratch.text(tensor.name)
    raw.pointee.data_type = Lossd__V1__DataType(tensor.dataType.rawValue)
    raw.pointee.n_shape = tensor.shape.count
    // protobuf-c only reads through this pointer.
    raw.pointee.shape = UnsafeMutablePointer(mutating: tensor.shape.baseAddress)
    switch tensor.storage {
    case .none: break
    case .inline(let bytes):
      raw.pointee.storage_case = LOSSD__V1__TENSOR__STORAGE_DATA
      raw.pointee.data.len = bytes.count
      raw.pointee.data.data = UnsafeMutablePointer(
        mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
    case .payload(let offset, let length):
      let range = scratch.make(lossd__v1__range__init)
      range.pointee.offset = offset
      range.pointee.length = length
      raw.pointee.storage_case = LOSSD__V1__TENSOR__STORAGE_PAYLOAD
      raw.pointee.payload = range
    case .shared(let region, let offset, let length):
      raw.pointee.storage_case = LOSSD__V1__TENSOR__STORAGE_SHARED
      raw.pointee.shared = SharedRange(region: region, offset: offset, length: length)
        .build(scratch)
    }
    return raw
  }

  private func build(
    _ request: OutgoingRequest
  ) throws(StatusError) -> UnsafeMutablePointer<Lossd__V1__EvaluateRequest> {
    try validate(request)
    let raw = scratch.make(lossd__v1__evaluate_request__init)
    raw.pointee.function = scratch.text(request.function)
    raw.pointee.id = request.id
    raw.pointee.n_inputs = request.inputs.count
    raw.pointee.inputs = scratch.list(request.inputs.count) { build(request.inputs[$0]) }
    raw.pointee.n_attributes = request.attributes.count
    raw.pointee.attributes = scratch.list(request.attributes.count) { index in
      let entry = scratch.make(lossd__v1__evaluate_request__attributes_entry__init)
      entry.pointee.key = scratch.text(request.attributes[index].name)
      entry.pointee.value = request.attributes[index].value.build(scratch)
      return entry
    }
    raw.pointee.n_outputs = request.outputs.count
    raw.pointee.outputs = scratch.list(request.outputs.count) { index in
      let output = scratch.make(lossd__v1__output__init)
      output.pointee.name = scratch.text(request.outputs[index].name)
      output.pointee.into = request.outputs[index].into?.build(scratch)
      return output
    }
    raw.pointee.n_summaries = request.summaries.count
    raw.pointee.summaries = scratch.list(request.summaries.count) { build(request.summaries[$0]) }
    return raw
  }

  /// What of a Summary a stream goes on from.
  private func build(_ summary: SummaryMessage) -> UnsafeMutablePointer<Lossd__V1__Summary> {
    let raw = scratch.make(lossd__v1__summary__init)
    raw.pointee.batches = summary.batches
    raw.pointee.rows = summary.rows
    // What is there whole is not needed rounded: a request has only so many fields.
    let state = summary.whole == nil ? summary.state.sorted { $0.key < $1.key } : []
    raw.pointee.n_state = state.count
    raw.pointee.state = scratch.list(state.count) { index in
      let entry = scratch.make(lossd__v1__summary__state_entry__init)
      entry.pointee.key = scratch.text(state[index].key)
      entry.pointee.value = state[index].value
      return entry
    }
    raw.pointee.whole = summary.whole?.build(scratch)
    return raw
  }

  /// A C string cannot hold a NUL, and a text must not change on its way.
  private func validate(_ request: OutgoingRequest) throws(StatusError) {
    var texts = [request.function]
    for attribute in request.attributes {
      texts.append(attribute.name)
      if case .string(let value) = attribute.value { texts.append(value) }
    }
    texts += request.outputs.map(\.name)
    if texts.contains(where: { $0.utf8.contains(0) }) {
      throw StatusError(.invalidArgument, "a name or an attribute's text contains a NUL")
    }
    for input in request.inputs where textProblem(input.name) != nil {
      throw StatusError(.invalidArgument, "an input's name is not UTF-8 without NUL")
    }
  }
}
