import Glibc

/// Descriptors that came with the bytes of `receive`, close-on-exec; those not taken are closed.
///
/// Storage is in place, so that receiving allocates nothing. One `receive` stops after the bytes that
/// a set of descriptors was sent with, but these need not be the first of that read.
public struct ReceivedDescriptors: ~Copyable {
  /// As many as are kept of one message; the kernel closes what does not fit.
  public static let countMax = 4

  private var raw: (Int32, Int32, Int32, Int32) = (-1, -1, -1, -1)
  public private(set) var count = 0
  /// More came than were kept since the last `removeAll`: the sender broke the rules.
  public internal(set) var isTruncated = false

  public init() {}

  deinit {
    for index in 0..<count { _ = close(at(index)) }
  }

  /// The oldest, or nil.
  public mutating func takeFirst() -> Descriptor? {
    if count == 0 { return nil }
    let first = Descriptor(adopting: raw.0)
    raw = (raw.1, raw.2, raw.3, -1)
    count -= 1
    return first
  }

  /// Closes what is left.
  public mutating func removeAll() {
    for index in 0..<count { _ = close(at(index)) }
    count = 0
    isTruncated = false
  }

  /// Keeps it, or closes it when there is no room.
  mutating func append(_ fd: Int32) {
    switch count {
    case 0: raw.0 = fd
    case 1: raw.1 = fd
    case 2: raw.2 = fd
    case 3: raw.3 = fd
    default:
      _ = close(fd)
      isTruncated = true
      return
    }
    count += 1
  }

  private func at(_ index: Int) -> Int32 {
    switch index {
    case 0: raw.0
    case 1: raw.1
    case 2: raw.2
    default: raw.3
    }
  }
}
