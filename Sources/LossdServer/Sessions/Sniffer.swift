import LossdTensor

/// The first session of every channel: it finds out by the first bytes what is spoken, and hands
/// the channel to a session of that protocol. A channel that speaks nothing of what is offered is
/// closed at its first wrong byte, without an answer.
final class Sniffer: Session {
  /// A protocol that a listener offers, by the bytes that its clients begin with. None of them is
  /// the beginning of another's.
  struct Offer {
    let preface: [UInt8]
    /// Gets the bytes after the preface.
    let makeSession: (Channel) -> Session
  }

  private let protocols: [Offer]
  /// What has come so far, shorter than any preface that begins like that.
  private var begin: [UInt8] = []

  init(_ channel: Channel, _ protocols: [Offer]) {
    self.protocols = protocols
    super.init(channel)
  }

  override func take(_ bytes: UnsafeRawBufferPointer) -> Int {
    for (index, byte) in bytes.enumerated() {
      begin.append(byte)
      let candidates = protocols.filter { $0.preface.starts(with: begin) }
      guard let first = candidates.first else {
        channel.close()
        return bytes.count
      }
      if first.preface.count > begin.count { continue }
      let session = first.makeSession(channel)
      channel.speak(session)
      let rest = UnsafeRawBufferPointer(rebasing: bytes[(index + 1)...])
      return index + 1 + (channel.phase == .open ? session.take(rest) : rest.count)
    }
    return bytes.count
  }

  override var reading: Reading { .starting }
  override var isSniffing: Bool { true }

  override func drain() {
    // The client may have sent something that is still on its way: its session will say that
    // nothing of it began.
    channel.setStall(Channel.lastWordsTime)
  }
}
