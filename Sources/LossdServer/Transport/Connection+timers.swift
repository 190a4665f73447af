import LossdEngine
import LossdWire

// Time limits: to HELLO, of a frame, and without a call.
extension Connection {
  func setStall(_ timeout: UInt64) {
    guard let stallEntry else { return }
    context.deadlines.set(stallEntry, at: timeout == 0 ? .max : Clock.now + timeout)
  }

  func setReadTimers() {
    guard let stallEntry else { return }
    if !decoder.hasSeenHello {
      return  // The time to HELLO runs from the connection on.
    } else if decoder.isMidMessage && mayRead {
      // The time runs from a message's first byte to its last, so that a message may not crawl.
      if timedFrame == decoder.frameNumber && stallEntry.isSet { return }
      timedFrame = decoder.frameNumber
      setStall(context.limits.frameTimeout)
    } else if decoder.isMidFrame && mayRead {
      setStall(context.limits.frameTimeout)
    } else if streams.isEmpty && context.limits.idleTimeout > 0 {
      setStall(context.limits.idleTimeout)
    } else if stallEntry.isSet {
      context.deadlines.cancel(stallEntry)
    }
  }

  func stalled() {
    if phase != .open {
      close()
      return
    }
    if !decoder.hasSeenHello && !decoder.hasReadPreface {
      close()
      return
    }
    let reason =
      !decoder.hasSeenHello
      ? "no HELLO in time" : decoder.isMidFrame ? "a frame stalled half-way" : "idle for too long"
    fail(BadFrame(reason, code: .deadlineExceeded))
  }
}
