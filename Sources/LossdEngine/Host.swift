import CLossdPlugin
import Glibc
import LossdTensor
import Synchronization

/// Monotonic time.
public enum Clock {
  /// Nanoseconds since some moment before the start.
  public static var now: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

/// plugin.h's host table.
enum Host {
  /// Made once and never changed: safe to share.
  nonisolated(unsafe) static let table: UnsafePointer<lossd_host> = {
    let table = UnsafeMutablePointer<lossd_host>.allocate(capacity: 1)
    let version = strdup(lossdVersion)
    table.initialize(
      to: lossd_host(
        struct_size: UInt32(MemoryLayout<lossd_host>.size), abi_major: UInt16(LOSSD_ABI_MAJOR),
        abi_minor: UInt16(LOSSD_ABI_MINOR), version: UnsafePointer(version),
        log: { _, level, text in
          guard let text else { return }
          PluginLog.write(level, text)
        },
        cancelled: { call in
          guard let call else { return 1 }
          let behind = UnsafeRawPointer(call) + MemoryLayout<lossd_call>.stride
          let object = behind.load(as: UnsafeRawPointer.self)
          let evaluation = Unmanaged<Evaluation>.fromOpaque(object).takeUnretainedValue()
          return evaluation.reasonToStop() == nil ? 0 : 1
        },
        add_to_sum: { chunk, index, values, count in
          guard let chunk, let values, let sums = chunk.pointee.sums else { return }
          UnsafePointer<KeptSums>(sums).pointee.add(values, Int(count), to: Int(index))
        }))
    return UnsafePointer(table)
  }()
}
