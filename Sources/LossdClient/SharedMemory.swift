import Glibc
import LossdSocket
import LossdTensor
import Synchronization

/// Memory that a client shares with its daemon (docs/protocol.md, "Shared memory"): tensors that
/// lie there cross no socket. The daemon makes it; it is one of the connection's that was current
/// then, and ordinary memory for every other.
///
/// Some seconds after that connection's end the daemon frees its pages, which then read as zeros:
/// see `isIntact`.
///
/// `@unchecked Sendable`: what lies there is not synchronised, as with `AlignedBuffer`;
/// `isReleased` is atomic.
public final class SharedMemory: @unchecked Sendable {
  /// Before the memory, in its region. The daemon frees a region from its beginning, so that who
  /// finds the mark still there knows that nothing has been freed. A page, so that the memory is at
  /// a multiple of one.
  private static let markBytes = 4096
  private static let mark: UInt64 = 0x6c6f_7373_642d_6f6b

  /// Bytes of a region for so many bytes of memory.
  static func regionBytes(_ byteCount: Int) -> Int { byteCount + markBytes }

  /// Bytes.
  public let byteCount: Int
  let region: UInt64
  let connection: ClientConnection
  private let base: UnsafeMutableRawPointer
  private let released = Atomic(false)

  /// Maps the region that the daemon has sent as `descriptor`; nil where that is not what it was
  /// asked for.
  init?(
    _ byteCount: Int, region: UInt64, of connection: ClientConnection,
    _ descriptor: borrowing Descriptor
  ) {
    guard let base = mapSealed(descriptor.raw, SharedMemory.regionBytes(byteCount)) else {
      return nil
    }
    base.storeBytes(of: SharedMemory.mark, as: UInt64.self)
    self.base = base
    self.byteCount = byteCount
    self.region = region
    self.connection = connection
  }

  deinit {
    release()
    munmap(base, SharedMemory.regionBytes(byteCount))
  }

  /// A tensor that lies here, at `offset` bytes, a multiple of 64; its elements are what is there.
  /// Keeps the memory.
  public func tensor(_ dataType: DataType, _ shape: [Int], at offset: Int = 0) -> Tensor {
    precondition(offset >= 0 && offset % AlignedBuffer.alignment == 0 && offset <= byteCount)
    return Tensor(
      dataType: dataType, shape: shape,
      buffer: AlignedBuffer(
        base + SharedMemory.markBytes + offset, count: byteCount - offset, lentBy: self))
  }

  /// Whether all that was written here is still here.
  public var isIntact: Bool {
    !released.load(ordering: .relaxed) && base.load(as: UInt64.self) == SharedMemory.mark
  }

  /// Whether the connection that it is of takes calls.
  public var isWithinReach: Bool { connection.isUsable }

  /// Gives it back to the daemon, which frees its pages once no call uses them: nobody may use it
  /// any more. Done by itself when the last reference goes.
  public func release() {
    if released.exchange(true, ordering: .relaxed) { return }
    connection.release(region)
  }

  /// Where in the region `tensor` lies; nil: it lies elsewhere, or in memory of another connection.
  static func place(
    of tensor: Tensor, on connection: ClientConnection
  ) -> (region: UInt64, offset: UInt64)? {
    guard let memory = tensor.sharedMemory, memory.connection === connection else { return nil }
    precondition(!memory.released.load(ordering: .relaxed), "memory that was given back is used")
    return (memory.region, UInt64(tensor.buffer.base + tensor.offset - memory.base))
  }
}

extension Tensor {
  /// Whether it lies in ordinary memory, or in shared memory of a connection that takes calls.
  public var isWithinReach: Bool { sharedMemory?.connection.isUsable ?? true }

  /// The shared memory that it lies in.
  var sharedMemory: SharedMemory? {
    buffer.lender.flatMap { $0 as? SharedMemory }
  }
}

extension Sequence where Element == (name: String, tensor: Tensor) {
  /// Throws where some of it lay in shared memory that the daemon has freed: what was sent of it,
  /// or read there, may have been zeros.
  func checkIntact() throws(StatusError) {
    for (name, tensor) in self {
      if let memory = tensor.sharedMemory, !memory.isIntact {
        throw StatusError(
          .unavailable, "\(name): its shared memory was lost with the connection that it was of")
      }
    }
  }
}
