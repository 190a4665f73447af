import Synchronization

/// Bytes of one connection's regions, against its own limit: apart from its bytes in flight.
/// Reserving is confined to the connection's loop; releasing may happen anywhere.
final class RegionAccount: Sendable {
  let bytesMax: Int
  private let used = Atomic<Int>(0)

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  var bytes: Int { used.load(ordering: .relaxed) }

  /// Whether `bytes` were free; then they are taken.
  func reserve(_ bytes: Int) -> Bool {
    if bytes > bytesMax - self.bytes { return false }
    used.add(bytes, ordering: .relaxed)
    return true
  }

  func release(_ bytes: Int) { used.subtract(bytes, ordering: .relaxed) }
}
