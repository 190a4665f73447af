import CLinux
import Glibc
import LossdEngine
import LossdTensor

/// The one call that a plugin's process has: what came with it and what it maps. `clear` leaves
/// nothing of it.
final class ProcessCall: @unchecked Sendable {
  // Safe to share: the main thread sets it up, then one worker completes it; see PluginProcess.
  let id: UInt64
  let evaluation: Evaluation
  let message: MessageMemory
  private let messageBytes: Int
  private let segments: SegmentMappings
  private(set) var hasResultSegment = false
  /// Its plan has been sent.
  var isPlanned = false

  init(
    _ id: UInt64, _ evaluation: Evaluation, _ message: MessageMemory, _ messageBytes: Int,
    _ segments: SegmentMappings
  ) {
    self.segments = segments
    self.id = id
    self.evaluation = evaluation
    self.message = message
    self.messageBytes = messageBytes
  }

  /// Reads what `WorkerLink` wrote: segments, outputs, attributes, inputs. Takes the descriptors
  /// over.
  func decode(_ order: inout Unpacker, _ descriptors: [Int32]) throws(StatusError) {
    var descriptors = descriptors[...]
    defer { for descriptor in descriptors { _ = close(descriptor) } }
    var bases: [UnsafeMutableRawPointer] = []
    var lengths: [Int] = []
    for _ in 0..<order.takeCount(28) {
      let (base, length) = try open(&order, &descriptors, isInput: true)
      bases.append(base)
      lengths.append(length)
    }
    for _ in 0..<order.takeCount(4) { try evaluation.request.want(Int(order.take(UInt32.self))) }
    for index in 0..<evaluation.entry.attributes.count {
      let value = order.takeAttribute()
      if case .none = value { continue }
      try evaluation.request.setAttribute(index, value)
    }
    for _ in 0..<order.takeCount(16) { try decodeInput(&order, bases, lengths) }
    if order.isBroken { throw StatusError(.internal, "the daemon's message cannot be read") }
  }

  private func decodeInput(
    _ order: inout Unpacker, _ bases: [UnsafeMutableRawPointer], _ lengths: [Int]
  ) throws(StatusError) {
    let index = Int(order.take(UInt32.self))
    let type = DataType(rawValue: order.take())
    let segment = Int(order.take(Int32.self))
    let offset = Int(order.take(Int64.self))
    let rank = order.takeCount(8)
    let sizes = order.takeBytes(8 * rank, alignment: 8)?.assumingMemoryBound(to: Int64.self)
    let shape = UnsafeBufferPointer(start: sizes, count: rank)
    guard let type, let count = checkedElementCount(shape, byteSize: type.byteSize),
      index < evaluation.entry.inputs.count
    else { throw StatusError(.internal, "the daemon's message cannot be read") }
    let bytes = count * type.byteSize
    var data: UnsafeMutableRawPointer?
    if segment < 0 {
      // The engine asks for a mutable pointer; inputs are only read, and the pages are read-only.
      data = order.takeBytes(bytes, alignment: 64).map { UnsafeMutableRawPointer(mutating: $0) }
    } else if segment < bases.count, offset >= 0, bytes <= lengths[segment] - offset {
      data = bases[segment] + offset
    } else {
      throw StatusError(.internal, "the daemon's message names memory that is not there")
    }
    try evaluation.request.setInput(
      index, TensorView(data: data, shape: shape, count: count, dataType: type))
  }

  /// Opens the memory for the results.
  func openResults(
    _ order: inout Unpacker, _ descriptors: [Int32]
  ) throws(StatusError) -> UnsafeMutableRawPointer {
    var descriptors = descriptors[...]
    defer { for descriptor in descriptors { _ = close(descriptor) } }
    hasResultSegment = true
    return try open(&order, &descriptors, isInput: false).base
  }

  private func open(
    _ order: inout Unpacker, _ descriptors: inout ArraySlice<Int32>, isInput: Bool
  ) throws(StatusError) -> (base: UnsafeMutableRawPointer, length: Int) {
    let id: UInt64 = order.take()
    let capacity = Int(order.take(Int64.self))
    let used = Int(order.take(Int64.self))
    let isNew = order.take(UInt32.self) != 0
    let descriptor = isNew ? descriptors.popFirst() : nil
    guard !order.isBroken, !isNew || descriptor != nil else {
      throw StatusError(.internal, "the daemon's message cannot be read")
    }
    let base = try segments.open(
      id, capacity: capacity, used: used, isInput: isInput, descriptor)
    return (base, used)
  }

  func clear() {
    segments.closeAll()
    evaluation.erase()
    message.unprotect(messageBytes)
    message.clear(messageBytes)
  }
}

/// Memory for one message, whole pages, so that it can be made read-only.
final class MessageMemory: @unchecked Sendable {
  // Safe to share: as the call that it holds.
  let base: UnsafeMutableRawPointer
  private static let page = Int(sysconf(Int32(_SC_PAGESIZE)))

  init() {
    base = .allocate(byteCount: Order.bytesMax, alignment: MessageMemory.page)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: Order.bytesMax)
  }

  deinit { base.deallocate() }

  var all: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: base, count: Order.bytesMax)
  }

  func bytes(_ count: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base, count: count)
  }

  /// Makes the pages of the first `count` bytes read-only.
  func protect(_ count: Int) { mprotect(base, MessageMemory.pages(count), PROT_READ) }
  func unprotect(_ count: Int) {
    mprotect(base, MessageMemory.pages(count), PROT_READ | PROT_WRITE)
  }

  func clear(_ count: Int) { base.initializeMemory(as: UInt8.self, repeating: 0, count: count) }

  private static func pages(_ count: Int) -> Int { (count + page - 1) / page * page }
}

/// Descriptors that came with a message.
struct ReceivedNumbers {
  let numbers = UnsafeMutablePointer<Int32>.allocate(capacity: Int(CLINUX_MESSAGE_FDS_MAX))
  var count: Int32 = 0

  /// The caller owns them.
  mutating func take() -> [Int32] {
    defer { count = 0 }
    return (0..<Int(count)).map { numbers[$0] }
  }
}

extension AlignedBuffer {
  func clear(_ bytes: Int? = nil) {
    base.initializeMemory(as: UInt8.self, repeating: 0, count: bytes ?? count)
  }
}
