# The boot flow of this board. Rendered from boot.cmd.in and board.toml by `make boot-scripts`.
#
# Theory of operation. U-Boot has counted this boot if upgrade_available=1, and comes here by
# altbootcmd, with trial_over=1, once bootcount > 3. The only store that this script makes
# is the fallback: primary and upgrade_available in one saveenv; bootcount and updater_session stay,
# for Linux to say why. If that saveenv fails the old slot is started all the same, and the next boot
# comes here again. A slot that cannot be loaded falls through to the next one without a store.
# With U-Boot's compiled default environment boot_slot is empty: the table's order, no trial.

if test "${trial_over}" = "1" && test "${upgrade_available}" = "1"; then
setenv next_slot A
if test "${boot_slot}" = "A"; then setenv next_slot B; fi
if test "${boot_slot}" = "B"; then setenv next_slot A; fi
echo "updater: slot ${boot_slot} failed its trial: falling back to slot ${next_slot}"
setenv trial_over
setenv boot_slot ${next_slot}
setenv upgrade_available 0
setenv next_slot
saveenv
fi

setenv order "A B"
if test "${boot_slot}" = "A"; then setenv order "A B"; fi
if test "${boot_slot}" = "B"; then setenv order "B A"; fi
for slot in ${order}; do
setenv partlabel
if test "${slot}" = "A"; then setenv partlabel rootfs-a; fi
if test "${slot}" = "B"; then setenv partlabel rootfs-b; fi
setenv trial
if test "${upgrade_available}" = "1" && test "${slot}" = "${boot_slot}"; then setenv trial " updater.trial=1"; fi
if part number virtio 0 ${partlabel} partnumber && part uuid virtio 0:${partnumber} partuuid && load virtio 0:${partnumber} ${kernel_addr_r} /boot/Image; then
echo "updater: starting slot ${slot}${trial}"
setenv bootargs "console=ttyAMA0 root=PARTUUID=${partuuid} rootfstype=ext4 ro rootwait init=/sbin/init panic=5 updater.slot=${slot} updater.primary=${boot_slot}${trial}"
booti ${kernel_addr_r} - ${fdt_addr}
fi
echo "updater: slot ${slot} cannot be started"
done
echo "updater: no slot can be started; stopped"
