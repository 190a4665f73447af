import CLossdProto
import CProtobufC
import LossdTensor

/// Memory for one decoded message, freed all at once: what protobuf-c allocates from.
///
/// A bump allocator over blocks that are kept from message to message, so that decoding allocates
/// nothing in the steady state. Confined to one thread at a time. Views of messages are valid until
/// `reset`.
public final class MessageArena {
  private struct Block {
    var base: UnsafeMutableRawPointer
    var capacity: Int
  }

  private static let firstBlockBytes = 4 << 10
  private static let alignment = 16

  private let allocatorStorage: UnsafeMutablePointer<ProtobufCAllocator>
  private let retainedBytes: Int
  private var blocks: [Block] = []
  private var blockIndex = 0
  private var offset = 0
  /// What protobuf-c may still take for the message being decoded, bytes.
  private var budget = Int.max
  /// Whether protobuf-c was refused memory since the last `beginDecoding`.
  private(set) var isExhausted = false

  /// More fields than any request needs: what a server takes of a client.
  public static let requestFieldsMax = 4096

  /// The most fields, elements of packed ones included, that a message may have.
  let fieldsMax: Int

  /// `retainedBytes` is what the arena keeps at most after a reset.
  public init(retainedBytes: Int = 256 << 10, fieldsMax: Int = .max) {
    self.fieldsMax = fieldsMax
    self.retainedBytes = max(retainedBytes, MessageArena.firstBlockBytes)
    allocatorStorage = .allocate(capacity: 1)
    allocatorStorage.initialize(
      to: ProtobufCAllocator(
        alloc: { data, size in
          guard let data else { return nil }
          // The arena outlives every call of protobuf-c, which it is lent to for that call: no need
          // to retain it.
          return Unmanaged<MessageArena>.fromOpaque(data)._withUnsafeGuaranteedRef {
            $0.allocateForDecoding(size)
          }
        }, free: { _, _ in }, allocator_data: nil))
    allocatorStorage.pointee.allocator_data = Unmanaged.passUnretained(self).toOpaque()
  }

  deinit {
    for block in blocks { MessageArena.give(block) }
    allocatorStorage.deallocate()
  }

  /// Memory in all blocks, bytes.
  public var capacity: Int { blocks.reduce(0) { $0 + $1.capacity } }

  /// Everything decoded so far is gone; blocks beyond the retained bytes are given back.
  public func reset() {
    blockIndex = 0
    offset = 0
    budget = .max
    if blocks.count > 1 { shrink() }
  }

  private func shrink() {
    var total = capacity
    while total > retainedBytes, blocks.count > 1, let last = blocks.popLast() {
      MessageArena.give(last)
      total -= last.capacity
    }
  }

  /// The most that one field may take when it is decoded, beyond its bytes: protobuf-c's structure
  /// of a message, a pointer to it and what alignment adds.
  private static let fieldBytesMax = 256

  /// The most that decoding a message may take, bytes.
  static func decodingBudget(messageBytes: Int, fields: Int) -> Int {
    2 * messageBytes + fieldBytesMax * fields + (4 << 10)
  }

  /// The most that an arena may have become when such a message has been decoded, bytes: blocks
  /// grow by doubling.
  static func bytesMax(messageBytes: Int, fields: Int) -> Int {
    2 * decodingBudget(messageBytes: messageBytes, fields: fields)
  }

  /// What protobuf-c calls with; a new budget for a message of `messageBytes` with so many fields.
  func beginDecoding(messageBytes: Int, fields: Int) -> UnsafeMutablePointer<ProtobufCAllocator> {
    budget = MessageArena.decodingBudget(messageBytes: messageBytes, fields: fields)
    isExhausted = false
    return allocatorStorage
  }

  private func allocateForDecoding(_ size: Int) -> UnsafeMutableRawPointer? {
    guard size >= 0, size <= budget else {
      isExhausted = true
      return nil
    }
    budget -= size
    return allocate(byteCount: size)
  }

  /// Uninitialised memory until the next reset, 16-byte-aligned.
  func allocate(byteCount: Int) -> UnsafeMutableRawPointer {
    let size = (byteCount + MessageArena.alignment - 1) & ~(MessageArena.alignment - 1)
    while true {
      if blockIndex < blocks.count, blocks[blockIndex].capacity - offset >= size {
        defer { offset += size }
        return blocks[blockIndex].base + offset
      }
      if blockIndex + 1 < blocks.count {
        blockIndex += 1
        offset = 0
      } else {
        addBlock(atLeast: size)
      }
    }
  }

  private func addBlock(atLeast size: Int) {
    // Each block as large as all before it: their number stays logarithmic.
    let bytes = max(size, MessageArena.firstBlockBytes, capacity)
    blocks.append(MessageArena.take(bytes))
    blockIndex = blocks.count - 1
    offset = 0
  }

  /// A block of the pool may be larger: its pages beyond `bytes` are never touched.
  /// A block of the pool may be larger: its pages beyond `bytes` are never touched.
  private static func take(_ bytes: Int) -> Block {
    if bytes > PagePool.blockBytesMax {
      return Block(
        base: .allocate(byteCount: bytes, alignment: AlignedBuffer.alignment), capacity: bytes)
    }
    guard let base = PagePool.shared.take(bytes) else {
      preconditionFailure("cannot allocate \(bytes) bytes")
    }
    return Block(base: base, capacity: bytes)
  }

  private static func give(_ block: Block) {
    if block.capacity <= PagePool.blockBytesMax {
      PagePool.shared.give(block.base, block.capacity)
    } else {
      block.base.deallocate()
    }
  }
}
