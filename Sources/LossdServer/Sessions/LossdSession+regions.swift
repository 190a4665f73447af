import LossdEngine
import LossdLoop
import LossdTensor
import LossdWire

// Shared memory: regions that the client asks for and gives back.
extension LossdSession {
  /// The most regions of one connection.
  static let regionsMax = 256

  /// REGION: the region is counted now, and made when its answer is written.
  func regionArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    defer { arena.reset() }
    let message = try decodeRegion(header, message)
    do throws(StatusError) {
      let region = try newRegion(message)
      regions[message.region] = region
      output.append(RegionAnswer(region, self))
      channel.wantsFlush()
    } catch { answer(message.region, error, releasing: false) }
  }

  private func decodeRegion(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) -> RegionMessage {
    do throws(StatusError) { return try RegionMessage(decoding: message, in: arena) } catch {
      throw BadFrame(header, error)
    }
  }

  private func newRegion(_ message: RegionMessage) throws(StatusError) -> SharedRegion {
    if regions[message.region] != nil {
      throw StatusError(.alreadyExists, "region \(message.region) is in use")
    }
    if regions.count >= LossdSession.regionsMax {
      throw StatusError(
        .resourceExhausted,
        "region \(message.region): the connection has \(regions.count) regions, the most that any "
          + "may have"
      )
    }
    return try SharedRegion(
      message.region, length: message.length, share.user.id, context.daemon.regions, regionAccount,
      context.limits)
  }

  /// RELEASE: the answer follows when no call uses the region any more and its pages are free.
  func releaseArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    defer { arena.reset() }
    let id = try decodeRegion(header, message).region
    guard let region = regions.removeValue(forKey: id) else {
      return answer(
        id, StatusError(.notFound, "region \(id) is not registered"), releasing: true)
    }
    region.isReleased = true
    let bound = LoopBound(WeakSession(self))
    let loop = context.loop
    region.onFree = {
      loop.execute { bound.value.session?.answer(id, nil, releasing: true) }
    }
  }

  private func answer(_ region: UInt64, _ error: StatusError?, releasing: Bool) {
    if channel.isClosed { return }
    channel.send {
      $0.encodeFrame(
        regionResult: RegionResultMessage(
          region: region, status: error.map { StatusMessage($0) } ?? StatusMessage(code: 0)),
        releasing: releasing)
    }
  }

  /// The region could not be made.
  func dropRegion(_ region: SharedRegion) {
    if regions[region.id] === region { regions[region.id] = nil }
  }

  /// The connection is over. Its regions' pages are freed after `limits.region_grace`: until then
  /// the client can copy arrays that lie there. While the daemon drains, the pages are not freed,
  /// because the daemon's end frees the mappings without a wait.
  func endRegions() {
    let isDraining = context.daemon.isDraining.load(ordering: .relaxed)
    let (due, passed) = Clock.now.addingReportingOverflow(context.limits.regionGrace)
    for region in regions.values {
      region.keepsPages = isDraining
      region.due = isDraining ? 0 : passed ? .max : due
    }
    regions.removeAll()
  }

  /// The region of this number. FAILED_PRECONDITION where there is no shared memory,
  /// INVALID_ARGUMENT where there is no such region.
  func region(_ id: UInt64) throws(StatusError) -> SharedRegion {
    guard decoder.sharedMemory else {
      throw StatusError(
        .failedPrecondition,
        channel.isUnix
          ? "shared memory is not available on this connection: its HELLO did not name the feature "
            + "shm"
          : "shared memory is not available on this connection: it is no Unix socket")
    }
    guard let region = regions[id], region.memory != nil else {
      throw StatusError(.invalidArgument, "region \(id) is not registered")
    }
    return region
  }
}

private struct WeakSession {
  weak var session: LossdSession?
  init(_ session: LossdSession) { self.session = session }
}
