import LossdTensor
import LossdWire

/// One call as bytes, made once: OPEN, MESSAGE, payload. A call of it is a copy with its stream's
/// number in two places.
struct BenchTemplate: @unchecked Sendable {
  // `@unchecked Sendable`: never changed once made.

  /// Up to this a payload is copied behind its frames; a bigger one is sent from where it lies.
  private static let copiedBytesMax = 64 << 10
  private static let streamOffset = 8

  /// Both frames, and the payload where it is small.
  let head: AlignedBuffer
  /// A bigger payload; empty otherwise.
  let tail: AlignedBuffer
  private let messageBegin: Int

  var byteCount: Int { head.count + tail.count }

  init(
    _ function: String, _ inputs: [(name: String, tensor: Tensor)],
    _ attributes: [(name: String, value: AttributeValue)], _ outputs: [String]
  ) throws(StatusError) {
    let payload = BenchTemplate.payload(inputs.map(\.tensor))
    let frames = OutputBuffer()
    frames.encodeFrame(open: "/lossd.v1.Evaluator/Evaluate", stream: 1)
    messageBegin = frames.count
    try BenchTemplate.encode(frames, function, inputs, attributes, outputs, payload.count)
    let isCopied = payload.count <= BenchTemplate.copiedBytesMax
    head = AlignedBuffer(count: frames.count + (isCopied ? payload.count : 0))
    head.base.copyMemory(from: frames.bytes.baseAddress.unsafelyUnwrapped, byteCount: frames.count)
    if isCopied {
      (head.base + frames.count).copyMemory(from: payload.base, byteCount: payload.count)
    }
    tail = isCopied ? AlignedBuffer(count: 0) : payload
  }

  /// The bytes of a call's head at `place`, as a call of this stream.
  func write(to place: UnsafeMutableRawPointer, stream: UInt32) {
    place.copyMemory(from: head.base, byteCount: head.count)
    for begin in [0, messageBegin] {
      place.storeBytes(
        of: stream.littleEndian, toByteOffset: begin + BenchTemplate.streamOffset, as: UInt32.self)
    }
  }

  private static func payload(_ tensors: [Tensor]) -> AlignedBuffer {
    let count = tensors.reduce(0) { TensorLayout.align64($0) + $1.byteCount }
    let payload = AlignedBuffer.zeroed(count: count)
    var offset = 0
    for tensor in tensors {
      offset = TensorLayout.align64(offset)
      withExtendedLifetime(tensor) {
        if let base = tensor.bytes.baseAddress {
          (payload.base + offset).copyMemory(from: base, byteCount: tensor.byteCount)
        }
      }
      offset += tensor.byteCount
    }
    return payload
  }

  private static func encode(
    _ frames: OutputBuffer, _ function: String, _ inputs: [(name: String, tensor: Tensor)],
    _ attributes: [(name: String, value: AttributeValue)], _ outputs: [String],
    _ payloadCount: Int
  ) throws(StatusError) {
    guard let payloadLength = UInt32(exactly: payloadCount) else {
      throw StatusError(.resourceExhausted, "the tensors take \(payloadCount) bytes, over 2^32-1")
    }
    // Borrowed for the encoding: kept in place until it is done.
    let names = inputs.map { Array($0.name.utf8) }
    let shapes = inputs.map { $0.tensor.shape.map(Int64.init) }
    var tensors: [OutgoingTensor] = []
    var offset = 0
    for (index, input) in inputs.enumerated() {
      offset = TensorLayout.align64(offset)
      tensors.append(
        OutgoingTensor(
          name: names[index].withUnsafeBytes { copied($0) }, dataType: input.tensor.dataType,
          shape: shapes[index].withUnsafeBufferPointer { copied($0) },
          storage: .payload(offset: UInt64(offset), length: UInt64(input.tensor.byteCount))))
      offset += input.tensor.byteCount
    }
    defer {
      for tensor in tensors {
        tensor.name.deallocate()
        tensor.shape.deallocate()
      }
    }
    var failure: StatusError?
    tensors.withUnsafeBufferPointer { tensors in
      let request = OutgoingRequest(
        function: function, inputs: tensors, attributes: attributes,
        outputs: outputs.map { ($0, nil) }, id: 1)
      do throws(StatusError) {
        try frames.encodeFrame(
          request: request, stream: 1, endStream: true, payloadLength: payloadLength)
      } catch { failure = error }
    }
    if let failure { throw failure }
  }

  private static func copied(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 1), alignment: 1)
    copy.copyMemory(from: bytes)
    return UnsafeRawBufferPointer(rebasing: copy[..<bytes.count])
  }

  private static func copied(_ sizes: UnsafeBufferPointer<Int64>) -> UnsafeBufferPointer<Int64> {
    let copy = UnsafeMutableBufferPointer<Int64>.allocate(capacity: max(sizes.count, 1))
    _ = copy.initialize(from: sizes)
    return UnsafeBufferPointer(rebasing: copy[..<sizes.count])
  }
}
