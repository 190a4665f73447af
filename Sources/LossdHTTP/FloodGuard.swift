/// Frames that cost their sender little and their receiver work, or make it answer: so many at once
/// and so many a second, more where real messages go to and fro. Confined to one thread at a time.
public struct FloodGuard {
  /// So many at once, and so many more each second.
  private static let frames = (burst: 10_000, rate: 1_000)
  private static let pings = (burst: 100, rate: 1)
  /// What a message, or a part of its body, is worth: clients answer it with WINDOW_UPDATE and the
  /// like.
  private static let perMessage = 4

  private var left = FloodGuard.frames.burst
  private var pingsLeft = FloodGuard.pings.burst
  private var refilled: UInt64
  private var pingsRefilled: UInt64

  /// `now`: nanoseconds of a clock that does not jump.
  public init(now: UInt64) {
    refilled = now
    pingsRefilled = now
  }

  /// A part of a message has come or gone.
  @inline(__always)
  public mutating func noteMessage() {
    left = min(left + FloodGuard.perMessage, FloodGuard.frames.burst)
    pingsLeft = FloodGuard.pings.burst
  }

  /// Whether one more frame of this kind is still none of a flood. `now` is asked where it matters.
  public mutating func admits(_ kind: HTTP2Control, now: () -> UInt64) -> Bool {
    if kind == .ping {
      if pingsLeft == 0 {
        FloodGuard.refill(&pingsLeft, &pingsRefilled, now(), FloodGuard.pings)
        if pingsLeft == 0 { return false }
      }
      pingsLeft -= 1
      return true
    }
    let cost = kind == .settings ? 10 : 1
    if left < cost {
      FloodGuard.refill(&left, &refilled, now(), FloodGuard.frames)
      if left < cost { return false }
    }
    left -= cost
    return true
  }

  private static func refill(
    _ left: inout Int, _ since: inout UInt64, _ now: UInt64, _ limit: (burst: Int, rate: Int)
  ) {
    let seconds = now > since ? (now - since) / 1_000_000_000 : 0
    if seconds == 0 { return }
    since += seconds * 1_000_000_000
    left = min(left + limit.rate * Int(min(seconds, 1 << 20)), limit.burst)
  }
}
