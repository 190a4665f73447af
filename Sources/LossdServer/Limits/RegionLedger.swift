import Glibc
import LossdTensor
import Synchronization

/// Counts the regions of shared memory and their bytes, for each user and for the daemon. A region
/// that does not fit is refused at once: nobody waits for a region, and none is taken away. Any
/// thread.
final class RegionLedger: Sendable {
  private struct Sum {
    var bytes = 0
    var regions = 0
  }

  private struct State {
    var all = Sum()
    var users: [UserID: Sum] = [:]
  }

  private let state = Mutex(State())
  /// A region is a mapping of this process, which needs other mappings too: a quarter of the
  /// kernel's limit.
  private let mappingsMax: Int

  init() { mappingsMax = RegionLedger.systemMappings() / 4 }

  /// Bytes of all regions, including those whose pages are still to be freed.
  var bytes: Int { state.withLock { $0.all.bytes } }
  var regions: Int { state.withLock { $0.all.regions } }

  /// Counts a region, or says with RESOURCE_EXHAUSTED which limit it is over.
  func take(_ bytes: Int, _ owner: UserID, _ limits: ServerLimits) throws(StatusError) {
    let refusal: String? = state.withLock { state in
      let user = state.users[owner] ?? Sum()
      func over(_ sum: Sum, _ who: String, _ bytesMax: Int, _ setting: String) -> String? {
        // By difference, since a client may ask for any number.
        if bytes <= bytesMax - sum.bytes { return nil }
        return
          "\(bytes) bytes do not fit: \(who) has \(sum.bytes) bytes of shared memory, the limit is "
          + "\(bytesMax) "
          + "(\(setting))"
      }
      func many(_ sum: Sum, _ who: String, _ most: Int, _ setting: String) -> String? {
        if sum.regions < most { return nil }
        return "\(who) has \(sum.regions) regions, the limit is \(most) (\(setting))"
      }
      let text =
        over(state.all, "the daemon", limits.regionBytesMax, "limits.region_bytes")
        ?? over(user, "user \(owner)", limits.userRegionBytes, "limits.user_region_bytes")
        ?? many(state.all, "the daemon", Int(limits.regionsMax), "limits.regions")
        ?? many(state.all, "the daemon", mappingsMax, "a quarter of vm.max_map_count")
        ?? many(user, "user \(owner)", Int(limits.userRegionsMax), "limits.user_regions")
      if text != nil { return text }
      state.all.bytes += bytes
      state.all.regions += 1
      state.users[owner] = Sum(bytes: user.bytes + bytes, regions: user.regions + 1)
      return nil
    }
    if let refusal { throw StatusError(.resourceExhausted, refusal) }
  }

  func give(_ bytes: Int, _ owner: UserID) {
    state.withLock { state in
      state.all.bytes -= bytes
      state.all.regions -= 1
      guard let user = state.users[owner] else { return }
      let left = Sum(bytes: user.bytes - bytes, regions: user.regions - 1)
      state.users[owner] = left.regions == 0 ? nil : left
    }
  }

  /// vm.max_map_count, or Linux's default where it cannot be read.
  private static func systemMappings() -> Int {
    let usual = 65_530
    guard let file = fopen("/proc/sys/vm/max_map_count", "re") else { return usual }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 32)
    guard fgets(&line, Int32(line.count), file) != nil else { return usual }
    let number = strtol(line, nil, 10)
    return number > 0 ? number : usual
  }
}
