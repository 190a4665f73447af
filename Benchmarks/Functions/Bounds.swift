import Glibc
import LossdEngine
import LossdKernelTable
import LossdKernels
import LossdTensor

/// What the machine can do at best, in this run: the C library's way through memory, and the
/// kernels' exp on data that is in the nearest cache.
enum Bounds {
  private static let repetitions = 15

  /// `read=SECONDS write=SECONDS copy=SECONDS` of so many bytes, and `exp.TYPE=SECONDS` of an
  /// element.
  static func measure(bytes: Int) -> String {
    let (from, to) = (AlignedBuffer.zeroed(count: bytes), AlignedBuffer.zeroed(count: bytes))
    var fields = [
      // A search for a byte that is not there.
      "read=\(best { precondition(memchr(from.base, 1, bytes) == nil) })",
      "write=\(best { memset(to.base, 0, bytes) })",
      "copy=\(best { memcpy(to.base, from.base, bytes) })",
    ]
    if let build = Kernels.chosen {
      for (type, table) in [
        ("float32", build.float32), ("float64", build.float64), ("float16", build.float16),
        ("bfloat16", build.bfloat16),
      ] {
        fields.append("exp.\(type)=\(exponential(table, from, to))")
      }
    }
    return fields.joined(separator: " ")
  }

  private static func exponential(
    _ table: KernelTable, _ from: AlignedBuffer, _ to: AlignedBuffer
  ) -> Double {
    let count = 1024
    let calls = 200
    return best { for _ in 0..<calls { table.exp(from.base, to.base, count) } }
      / Double(count * calls)
  }

  private static func best(_ body: () -> Void) -> Double {
    var least = Double.infinity
    for _ in 0..<repetitions {
      let start = Clock.now
      body()
      least = min(least, Double(Clock.now - start) * 1e-9)
    }
    return least
  }
}
