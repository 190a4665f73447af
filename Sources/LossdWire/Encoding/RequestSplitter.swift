import Glibc
import LossdTensor

/// Parts an EvaluateRequest with inline tensors, as it comes, into what lossd's own wire has: a
/// message that says where in a payload the tensors are, and that payload, each tensor at a
/// multiple of 64. A tensor's bytes are copied once, to their place, and are never in the message.
///
/// What it does not know it copies; what it copies is checked when the message is decoded.
/// Allocates nothing in the steady state. Confined to one thread at a time.
public final class RequestSplitter {
  /// Tensors of one request that bring bytes: no function has more inputs.
  public static let tensorsMax = 64
  /// What the payload may take beyond the request's bytes.
  public static let paddingBytesMax = tensorsMax * 64
  private static let headBytesRetained = 1 << 10

  private enum Length {
    case copy, tensor, data
  }

  private enum State {
    case tag, varint
    case length(Length)
    case copy(Int)
    case data(Int)
  }

  private enum Number {
    static let inputs: UInt64 = 2
    static let data: UInt64 = 4
    static let payload: UInt64 = 5
    static let shared: UInt64 = 6
  }

  private var storage = ByteBuffer(capacity: RequestSplitter.headBytesRetained)
  private var state = State.tag
  private var value: UInt64 = 0
  private var shift: UInt64 = 0
  /// Bytes of the request, and of the tensor under way, that are still to come.
  private var left = 0
  private var tensorLeft = 0
  private var isInTensor = false
  private var hasStorage = false
  private var tensorStart = 0
  private var tensorCount = 0
  private var headBytesMax = 0
  private var payload: UnsafeMutableRawPointer?
  private var capacity = 0
  /// Bytes of the payload so far.
  public private(set) var payloadBytes = 0

  public init() {}

  /// The message, once `finish` has been called. Valid until the next `begin`.
  public var head: UnsafeRawBufferPointer { storage.bytes }

  /// Memory that it takes, bytes.
  public var heldBytes: Int { storage.capacity }

  /// A request of `byteCount` bytes follows. `payload` has room for as many and for
  /// `paddingBytesMax`.
  public func begin(
    _ byteCount: Int, payload: UnsafeMutableRawPointer, headBytesMax: Int
  ) {
    storage.removeAll(retained: RequestSplitter.headBytesRetained)
    state = .tag
    value = 0
    shift = 0
    left = byteCount
    isInTensor = false
    tensorCount = 0
    payloadBytes = 0
    self.headBytesMax = headBytesMax
    self.payload = payload
    capacity = byteCount + RequestSplitter.paddingBytesMax
  }

  /// Takes the request's next bytes. INVALID_ARGUMENT where they are no request,
  /// FAILED_PRECONDITION where its tensors are in memory that this transport has not,
  /// RESOURCE_EXHAUSTED where there is too much beside its tensors.
  public func take(_ bytes: UnsafeRawBufferPointer) throws(StatusError) {
    guard bytes.count <= left else { throw bad("there are more bytes than were announced") }
    var index = 0
    while index < bytes.count {
      switch state {
      case .copy(let count):
        let part = min(count, bytes.count - index)
        storage.append(UnsafeRawBufferPointer(rebasing: bytes[index..<index + part]))
        index += part
        try pass(part)
        if part == count { try ended() } else { state = .copy(count - part) }
      case .data(let count):
        let part = min(count, bytes.count - index)
        if let payload, let source = bytes.baseAddress {
          memcpy(payload + payloadBytes, source + index, part)
        }
        payloadBytes += part
        index += part
        try pass(part)
        if part == count { try ended() } else { state = .data(count - part) }
      case .varint:
        let byte = bytes[index]
        index += 1
        try pass(1)
        append(byte)
        shift += 7
        if byte < 0x80 { try ended() } else if shift >= 70 { throw bad("a number is too long") }
      case .tag, .length:
        let byte = bytes[index]
        index += 1
        try pass(1)
        if shift >= 63 && byte > 1 { throw bad("a number is too long") }
        value |= UInt64(byte & 0x7F) << shift
        shift += 7
        if byte >= 0x80 { continue }
        let number = value
        value = 0
        shift = 0
        if case .length(let length) = state {
          try lengthArrived(number, length)
        } else {
          try tagArrived(number)
        }
      }
    }
  }

  /// The request is whole.
  public func finish() throws(StatusError) {
    guard case .tag = state, shift == 0, !isInTensor, left == 0 else {
      throw bad("a field is cut short")
    }
  }

  // MARK: - Fields

  private func tagArrived(_ tag: UInt64) throws(StatusError) {
    let number = tag >> 3
    let wireType = tag & 7
    guard number != 0, tag <= UInt64(UInt32.max) else { throw bad("no field number") }
    if isInTensor {
      switch number {
      case Number.data:
        guard wireType == 2 else { throw bad("data has wire type \(wireType)") }
        try storageArrived()
        state = .length(.data)
        return
      case Number.payload, Number.shared:
        throw StatusError(
          .failedPrecondition,
          "a tensor is in \(number == Number.payload ? "a payload" : "shared memory"), which this "
            + "transport has not; put it into `data`")
      default: break
      }
    } else if number == Number.inputs {
      guard wireType == 2 else { throw bad("inputs has wire type \(wireType)") }
      state = .length(.tensor)
      return
    }
    try room(10)
    append(varint: tag)
    switch wireType {
    case 0: state = .varint
    case 1: state = .copy(8)
    case 2: state = .length(.copy)
    case 5: state = .copy(4)
    default: throw bad("field \(number) has wire type \(wireType)")
    }
  }

  private func storageArrived() throws(StatusError) {
    if hasStorage { throw bad("a tensor has two storages") }
    hasStorage = true
  }

  private func lengthArrived(_ length: UInt64, _ what: Length) throws(StatusError) {
    guard length <= UInt64(isInTensor ? tensorLeft : left) else {
      throw bad("a field is cut short")
    }
    let count = Int(length)
    switch what {
    case .copy:
      try room(count + 10)
      append(varint: length)
      state = .copy(count)
      if count == 0 { try ended() }
    case .tensor:
      try room(16)
      append(0x12)
      // Its length is written when it is known, in as many bytes as it may need.
      storage.extend(by: 5).initializeMemory(as: UInt8.self, repeating: 0, count: 5)
      tensorStart = storage.count
      isInTensor = true
      hasStorage = false
      tensorLeft = count
      state = .tag
      if count == 0 { try ended() }
    case .data:
      if count == 0 { return try ended() }
      try dataBegins(count)
    }
  }

  private func dataBegins(_ count: Int) throws(StatusError) {
    tensorCount += 1
    if tensorCount > RequestSplitter.tensorsMax {
      throw bad("more than \(RequestSplitter.tensorsMax) tensors have data")
    }
    let offset = TensorLayout.align64(payloadBytes)
    guard let payload, offset + count <= capacity else {
      throw bad("the tensors have too many bytes")
    }
    // What lies between tensors is nobody else's.
    (payload + payloadBytes).initializeMemory(
      as: UInt8.self, repeating: 0, count: offset - payloadBytes)
    payloadBytes = offset
    try room(32)
    let begin = storage.count
    append(0x2A)
    append(0)
    append(0x08)
    append(varint: UInt64(offset))
    append(0x10)
    append(varint: UInt64(count))
    storage.set(begin + 1, UInt8(storage.count - begin - 2))
    state = .data(count)
  }

  /// A field's value is whole.
  private func ended() throws(StatusError) {
    state = .tag
    value = 0
    shift = 0
    guard isInTensor, tensorLeft == 0 else { return }
    isInTensor = false
    let length = storage.count - tensorStart
    for index in 0..<5 {
      let part = UInt8(length >> (7 * index) & 0x7F)
      storage.set(tensorStart - 5 + index, index < 4 ? part | 0x80 : part)
    }
  }

  private func pass(_ count: Int) throws(StatusError) {
    left -= count
    if !isInTensor { return }
    tensorLeft -= count
    if tensorLeft < 0 { throw bad("a tensor is cut short") }
  }

  // MARK: - The message

  private func room(_ count: Int) throws(StatusError) {
    if storage.count + count > headBytesMax {
      throw StatusError(
        .resourceExhausted,
        "the request has over \(headBytesMax) bytes beside its tensors (limits.message_bytes)")
    }
  }

  private func append(_ byte: UInt8) {
    storage.extend(by: 1).storeBytes(of: byte, as: UInt8.self)
  }

  private func append(varint value: UInt64) {
    var value = value
    while value >= 0x80 {
      append(UInt8(truncatingIfNeeded: value) | 0x80)
      value >>= 7
    }
    append(UInt8(value))
  }

  private func bad(_ what: String) -> StatusError {
    StatusError(.invalidArgument, "the message does not decode: EvaluateRequest: \(what)")
  }
}
