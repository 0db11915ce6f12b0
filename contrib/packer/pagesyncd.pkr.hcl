# An image for DigitalOcean with pagesyncd installed and without secrets: each Droplet made from it makes its own at its
# first boot.
#
#     packaging/debian/build
#     export DIGITALOCEAN_TOKEN=...
#     packer init contrib/packer
#     packer build -var package=target/debian/pagesyncd_0.1.0-1_amd64.deb contrib/packer
#
# The result is a snapshot of the account. What is to be done on a Droplet made from it is in docs/install.md,
# after the installation from a package. For the marketplace, -var img_check=PATH names DigitalOcean's 99-img-check.sh:
# it runs last, and the build fails where it finds a fault.

packer {
  required_plugins {
    digitalocean = {
      version = ">= 1.4.0"
      source  = "github.com/digitalocean/digitalocean"
    }
  }
}

variable "api_token" {
  type      = string
  sensitive = true
  default   = env("DIGITALOCEAN_TOKEN")
}

variable "package" {
  type        = string
  description = "The package that packaging/debian/build made."
}

variable "img_check" {
  type        = string
  description = "DigitalOcean's script 99-img-check.sh; empty for none."
  default     = ""
}

variable "base" {
  type    = string
  default = "debian-13-x64"
}

variable "region" {
  type    = string
  default = "nyc3"
}

source "digitalocean" "pagesyncd" {
  api_token     = var.api_token
  image         = var.base
  region        = var.region
  size          = "s-1vcpu-1gb"
  ssh_username  = "root"
  snapshot_name = "pagesyncd-${formatdate("YYYYMMDDhhmm", timestamp())}"
}

build {
  sources = ["source.digitalocean.pagesyncd"]

  provisioner "shell" {
    inline = ["cloud-init status --wait"]
  }

  provisioner "file" {
    source      = var.package
    destination = "/var/tmp/pagesyncd.deb"
  }

  provisioner "file" {
    source      = "${path.root}/first-boot"
    destination = "/var/lib/cloud/scripts/per-instance/001_pagesyncd"
  }

  provisioner "shell" {
    script = "${path.root}/install"
  }

  # The last step that changes the image: afterwards no key lets anybody in.
  provisioner "shell" {
    scripts = compact(["${path.root}/clean", var.img_check])
  }
}
