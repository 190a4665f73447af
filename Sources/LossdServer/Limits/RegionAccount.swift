import Synchronization

/// Bytes of one connection's regions, against the connection's limit. They do not count as bytes in
/// flight. The connection's loop reserves; any thread may release.
final class RegionAccount: Sendable {
  let bytesMax: Int
  private let used = Atomic<Int>(0)

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  var bytes: Int { used.load(ordering: .relaxed) }

  /// Takes `bytes` where they fit; false where they do not.
  func reserve(_ bytes: Int) -> Bool {
    if bytes > bytesMax - self.bytes { return false }
    used.add(bytes, ordering: .relaxed)
    return true
  }

  func release(_ bytes: Int) { used.subtract(bytes, ordering: .relaxed) }
}
