import CLinux
import CLossdPlugin
import Glibc
import LossdCatalogue
import LossdEngine
import LossdTensor
import Testing

@testable import LossdPluginHost

/// The catalogue's functions as those of a library: here, or in another process.
final class Library: FunctionOwner {
  let isElsewhere: Bool
  init(isElsewhere: Bool) { self.isElsewhere = isElsewhere }

  static func entry(_ name: String, isElsewhere: Bool) throws -> FunctionEntry {
    let registry = Registry()
    try registry.add(cataloguePlugin(), owner: Library(isElsewhere: isElsewhere))
    return try #require(registry.table.entries.first { $0.name == name })
  }
}

/// Tensors that live as long as this does.
final class Tensors {
  private var blocks: [UnsafeMutableRawPointer] = []

  func make<Element: BitwiseCopyable>(
    _ values: [Element], _ type: DataType, _ shape: [Int64]
  ) -> TensorView {
    let data = UnsafeMutableRawPointer.allocate(byteCount: max(values.count, 1) * 8, alignment: 64)
    let sizes = UnsafeMutablePointer<Int64>.allocate(capacity: max(shape.count, 1))
    blocks += [data, UnsafeMutableRawPointer(sizes)]
    values.withUnsafeBytes {
      if let base = $0.baseAddress { data.copyMemory(from: base, byteCount: $0.count) }
    }
    for (index, size) in shape.enumerated() { sizes[index] = size }
    return TensorView(
      data: data, shape: UnsafeBufferPointer(start: sizes, count: shape.count),
      count: values.count, dataType: type)
  }

  deinit { for block in blocks { block.deallocate() } }
}

/// Random numbers that repeat: SplitMix64.
struct Random: RandomNumberGenerator {
  private var state: UInt64
  let seed: UInt64

  init() {
    seed =
      getenv("LOSSD_SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64.random(in: 0...9999)
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A copy of some bytes with a few of them changed, some cut off, or some put in.
  mutating func mutated(_ bytes: [UInt8]) -> [UInt8] {
    var copy = bytes
    switch Int.random(in: 0..<8, using: &self) {
    case 0: copy = Array(copy.prefix(Int.random(in: 0...copy.count, using: &self)))
    case 1:
      let place = Int.random(in: 0...copy.count, using: &self)
      copy.insert(
        contentsOf: (0..<8).map { _ in UInt8.random(in: 0...255, using: &self) }, at: place)
    case 2:
      // A count or a size becomes an extreme.
      let extremes: [UInt64] = [0, 1, .max, 1 << 63, 1 << 31, UInt64(UInt32.max), 1 << 40]
      guard copy.count >= 8 else { break }
      let place = Int.random(in: 0...(copy.count - 8), using: &self)
      let width = Bool.random(using: &self) ? 4 : 8
      withUnsafeBytes(of: extremes.randomElement(using: &self) ?? 0) {
        for index in 0..<width { copy[place + index] = $0[index] }
      }
    default:
      for _ in 0..<Int.random(in: 1...4, using: &self) where !copy.isEmpty {
        let place = Int.random(in: 0..<copy.count, using: &self)
        copy[place] = UInt8.random(in: 0...255, using: &self)
      }
    }
    return copy
  }
}

/// Bytes that a packer wrote.
func packed(_ body: (inout Packer) -> Void) -> [UInt8] {
  let memory = MessageMemory()
  var packer = Packer(memory.all)
  body(&packer)
  return Array(packer.bytes)
}

/// A link whose process is the test.
final class FakeProcess {
  let link: WorkerLink
  private(set) var socket: Int32
  let memory = MessageMemory()
  let view: SharedWords.View

  init(isReady: Bool = true) throws {
    var ends: [Int32] = [-1, -1]
    var log: [Int32] = [-1, -1]
    try #require(clinux_message_pair(&ends, Int32(2 * Order.bytesMax)) == 0)
    try #require(clinux_pipe(&log) == 0)
    let words = try SharedWords()
    view = try #require(SharedWords.View(words.descriptors.map { dup($0) }))
    _ = close(log[1])
    link = WorkerLink(
      WorkerHandle(pid: 0, socket: ends[0], log: log[0], words: words), isReady: isReady)
    socket = ends[1]
  }

  deinit {
    end()
    munmap(UnsafeMutableRawPointer(mutating: view.stop), 8)
    munmap(view.begun, 8)
  }

  func end() {
    if socket >= 0 { _ = close(socket) }
    socket = -1
  }

  func say(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { _ = clinux_send_message(socket, $0.baseAddress, $0.count, nil, 0, 0) }
  }

  /// The next order, and the descriptors that came along.
  func hear() throws -> (order: Unpacker, bytes: Int, descriptors: [Int32]) {
    var descriptors = ReceivedNumbers()
    let count = clinux_receive_message(
      socket, memory.base, Order.bytesMax, descriptors.numbers, &descriptors.count, 0)
    defer { descriptors.numbers.deallocate() }
    try #require(count > 0)
    return (Unpacker(memory.bytes(count)), count, descriptors.take())
  }
}

extension WorkerEvent {
  var isBroken: Bool { if case .broken = self { true } else { false } }
  var isComputed: Bool { if case .computed = self { true } else { false } }
  var isPlanned: Bool { if case .planned = self { true } else { false } }
  var isFailed: Bool { if case .failed = self { true } else { false } }
  var isGone: Bool { if case .gone = self { true } else { false } }
  var isGoneUnread: Bool { if case .goneUnread = self { true } else { false } }
}
